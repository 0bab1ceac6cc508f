// What a construction did, for people and for a model's manifest.
#pragma once

#include <cstdint>
#include <vector>

#include "common/json.h"
#include "worker/construction/importance_split.h"
#include "worker/construction/partition.h"

namespace moe::construction {

struct LayerReport {
  int64_t layer = 0;
  int64_t num_experts = 0, expert_width = 0, shared_width = 0;
  double overlap = 0;  // share of its neurons that an expert has in common with another, mean
  double unused = 0;   // share of the FFN's neurons that are in no expert
  double coverage =
      -1;  // share of its group's importance that an expert holds, mean; -1: not known
};

// `width` is the dense FFN's; `scores` those that made the partition, or null. Layers that stay
// dense are left out.
std::vector<LayerReport> ReportPartition(const Partition& partition, int64_t width,
                                         const std::vector<Scores>* scores);

// As rows of cells with a title row, as reports in manifests are; scales[i] is the factor of layer
// i, empty for a pruned model.
Json ReportTable(const std::vector<LayerReport>& layers, const std::vector<double>& scales);

}  // namespace moe::construction
