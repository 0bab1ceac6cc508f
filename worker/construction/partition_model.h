// The construction methods by name: from a dense model to the partition of all of its layers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "sampler/dataset.h"
#include "storage/artefacts/model_config.h"
#include "worker/construction/balanced_kmeans.h"
#include "worker/construction/importance.h"
#include "worker/construction/partition.h"
#include "worker/construction/text_groups.h"

namespace moe::construction {

enum class Method {
  kIndependentRandom,
  kIndependentClustering,
  kIndependentImportance,
  kCoactivationGraph,
  kSharingInner,
  kSharingInter,
  kPruneRandom,
  kPruneImportance,
};

// Whether the result is a narrower dense model, of one "expert" per layer.
inline bool IsPruning(Method method) {
  return method == Method::kPruneRandom || method == Method::kPruneImportance;
}
// Whether text is read.
inline bool NeedsText(Method method) {
  return method == Method::kIndependentImportance || method == Method::kCoactivationGraph ||
         method == Method::kSharingInner || method == Method::kSharingInter ||
         method == Method::kPruneImportance;
}

struct MethodOptions {
  Method method = Method::kIndependentRandom;
  std::vector<int64_t> layers;  // that get experts, ascending; empty for all
  int64_t num_experts = 0;      // routed; 1 for pruning
  int64_t num_shared_experts = 0;
  int64_t expert_width = 0;  // 0: what follows from the rest, see CompleteMethod
  double retain = 1;         // of pruning: share of the neurons that stay
  bool overlap = true;
  uint64_t seed = 0;
  // Of independent-clustering.
  Projection cluster_rows = Projection::kUp;
  KMeansOptions kmeans;
  // Of the methods that read text.
  bool group_by_domain = false;
  TextGroupOptions text;
  ImportanceOptions importance;
  Criterion criterion = Criterion::kMax;
  Kernel coactivation_kernel = Kernel::kL1;
  double coactivation_threshold = 1;
};

struct ModelPartition {
  Partition partition;
  // Per layer, where the method measures importance: what is kept of each group's.
  std::vector<Scores> scores;
};

// Done and to do, in `unit`. false stops.
using PartitionProgress = std::function<bool(int64_t done, int64_t total, const char* unit)>;

// Fills in the expert width and checks that options and model fit each other: INVALID_ARGUMENT with
// numbers and fix. The coordinator has done the same where it knew the model.
absl::Status CompleteMethod(const artefacts::ModelConfig& dense, MethodOptions& options);

// `options` is complete. `parameters` is fp32 [P] of the dense model; `dataset` is null where the
// method needs no text. CANCELLED where `progress` stopped it.
absl::StatusOr<ModelPartition> PartitionModel(const artefacts::ModelConfig& dense,
                                              const at::Tensor& parameters,
                                              const sampler::Dataset* dataset,
                                              const MethodOptions& options,
                                              const PartitionProgress& progress);

// The rows of one projection of one layer, each scaled to length 1: [I, d].
std::vector<float> NormalisedRows(const artefacts::ModelConfig& dense, const at::Tensor& parameters,
                                  int64_t layer, Projection projection);

}  // namespace moe::construction
