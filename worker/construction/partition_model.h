// The construction methods by name: from a dense model to the partitions of its layers.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "sampler/dataset.h"
#include "storage/artefacts/model_config.h"
#include "worker/construction/balanced_kmeans.h"
#include "worker/construction/importance.h"
#include "worker/construction/partition.h"
#include "worker/construction/text_groups.h"
#include "worker/model/weight_source.h"

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

// `options` is complete, here and below. One layer's partition by a method that reads no text: of
// the neurons `dealt`, ascending, into options.num_experts. Weights are read where the method looks
// at them. A function of (weights, options, layer, dealt).
LayerPartition PartitionLayer(const model::WeightSource& dense, const MethodOptions& options,
                              int64_t layer, const Neurons& dealt);

// All layers', by a method that reads text; dealt[i] are the neurons of layer i. `parameters` is
// fp32 [P] of the dense model. CANCELLED where `progress` stopped it.
absl::StatusOr<ModelPartition> PartitionByText(const artefacts::ModelConfig& dense,
                                               const at::Tensor& parameters,
                                               const sampler::Dataset& dataset,
                                               const MethodOptions& options,
                                               const std::vector<Neurons>& dealt,
                                               const PartitionProgress& progress);

// The rows of one projection of one layer, each scaled to length 1: [I, d].
std::vector<float> NormalisedRows(const model::WeightSource& dense, int64_t layer,
                                  Projection projection);

// A first gate for the experts of `partition`: the mean of each one's rows_Id (NormalisedRows), and
// the identity behind it where `gate_network` is "mlp". As LayerPlan::replaced has it.
std::map<std::string, at::Tensor> GateAtCentres(const std::vector<float>& rows_Id, int64_t d,
                                                const LayerPartition& partition,
                                                const std::string& gate_network);

}  // namespace moe::construction
