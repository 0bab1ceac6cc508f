#include "worker/rank/construct_partition.h"

#include <algorithm>
#include <memory>

#include "common/status.h"
#include "sampler/dataset.h"
#include "worker/construction/calibration_sample.h"
#include "worker/rank/artefacts.h"

namespace moe::rank {
namespace {

constexpr int64_t kSampleLength = 512;

// The dataset that is the input `field`, with the model's vocabulary.
absl::StatusOr<std::unique_ptr<sampler::Dataset>> OpenText(const JobContext& context,
                                                           const std::string& field,
                                                           const artefacts::ModelConfig& dense) {
  MOE_ASSIGN_OR_RETURN(const Input model, context.run.FindInput("model"));
  MOE_ASSIGN_OR_RETURN(const Input text, context.run.FindInput(field));
  MOE_ASSIGN_OR_RETURN(auto dataset, OpenRunningText(text));
  MOE_RETURN_IF_ERROR(CheckVocabulary(text, *dataset, model, dense.vocab_size));
  return dataset;
}

}  // namespace

absl::StatusOr<construction::ModelPartition> PartitionByText(
    JobContext& context, const ConstructSpec& spec, const artefacts::ModelConfig& dense,
    const at::Tensor& parameters, const std::vector<construction::Neurons>& dealt) {
  MOE_ASSIGN_OR_RETURN(const auto dataset, OpenText(context, "importance.dataset", dense));
  if (spec.method.text.sequence_length > dense.context_length) {
    return InvalidArgument(
        "importance.sequence_length={} is more than the model's context of {} tokens",
        spec.method.text.sequence_length, dense.context_length);
  }
  return construction::PartitionByText(
      dense, parameters, *dataset, spec.method, dealt,
      [&](int64_t done, int64_t total, const char* unit) {
        ReportProgress(context.channel, done, total, unit, spec.method_name);
        return context.channel.stop_requested() == StopReason::kNone;
      });
}

absl::StatusOr<at::Tensor> ReadSample(const JobContext& context, const std::string& field,
                                      int64_t tokens, const artefacts::ModelConfig& dense) {
  MOE_ASSIGN_OR_RETURN(const auto dataset, OpenText(context, field, dense));
  return construction::CalibrationSample(*dataset, tokens,
                                         std::min(kSampleLength, dense.context_length));
}

artefacts::MoeConfig ToMoeConfig(const ConstructSpec& spec, const artefacts::ModelConfig& dense) {
  artefacts::MoeConfig moe;
  moe.num_experts = spec.method.num_experts;
  moe.top_k = spec.top_k;
  moe.expert_width = spec.method.expert_width;
  moe.shared_width = spec.method.num_shared_experts * spec.method.expert_width;
  moe.gate_network = spec.gate_network;
  moe.gate = spec.gate;
  moe.capacity_factor = spec.capacity_factor;
  moe.score_scale_factor = spec.score_scale_factor;
  moe.learn_scale = spec.learn_scale;
  const std::vector<int64_t>& layers = spec.method.layers;
  for (int64_t i = 0; i < dense.num_layers && !layers.empty(); ++i) {
    if (!std::binary_search(layers.begin(), layers.end(), i)) moe.dense_layers.push_back(i);
  }
  return moe;
}

}  // namespace moe::rank
