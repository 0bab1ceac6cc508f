#include "worker/rank/published_construction.h"

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "common/status.h"
#include "sampler/dataset.h"
#include "worker/construction/build.h"
#include "worker/construction/partition_model.h"
#include "worker/construction/report.h"
#include "worker/rank/artefacts.h"

namespace moe::rank {
namespace {

using construction::MethodOptions;
using construction::ModelPartition;

// The text that a method reads; null where it reads none.
absl::StatusOr<std::unique_ptr<sampler::Dataset>> OpenText(const JobContext& context,
                                                           const MethodOptions& method,
                                                           const Input& model,
                                                           const artefacts::ModelConfig& dense) {
  if (!construction::NeedsText(method.method)) return nullptr;
  MOE_ASSIGN_OR_RETURN(const Input input, context.run.FindInput("importance.dataset"));
  MOE_ASSIGN_OR_RETURN(auto dataset, sampler::Dataset::Open(input.path));
  MOE_RETURN_IF_ERROR(CheckVocabulary(input.display_name(), dataset->vocab_size(),
                                      model.display_name(), dense.vocab_size));
  if (method.text.sequence_length > dense.context_length) {
    return InvalidArgument(
        "importance.sequence_length={} is more than the context of {}, {} tokens",
        method.text.sequence_length, model.display_name(), dense.context_length);
  }
  return dataset;
}

Constructed Prune(const model::LoadedModel& dense, const MethodOptions& method,
                  const ModelPartition& split) {
  artefacts::ModelConfig config = dense.config;
  config.intermediate_size = method.expert_width;
  at::Tensor parameters =
      construction::BuildPruned(dense.config, dense.parameters, config, split.partition);
  return {.config = config, .parameters = std::move(parameters), .calibration = {}, .table = {}};
}

absl::StatusOr<Constructed> MakeMixture(JobContext& context, const ConstructSpec& spec,
                                        const model::LoadedModel& dense,
                                        const ModelPartition& split) {
  MOE_ASSIGN_OR_RETURN(const artefacts::ModelConfig config,
                       construction::MoeConfigFor(dense.config, ToMoeConfig(spec, dense.config)));
  at::Tensor parameters = construction::BuildMoe(
      dense.config, dense.parameters, config, split.partition, spec.method.seed, [&](int64_t done) {
        ReportProgress(context.channel, done, config.num_layers, "layers", "slicing experts");
      });
  if (config.moe.shared_width > 0) {
    construction::ScaleSharedExperts(config, spec.shared_scale_factor, parameters);
  }
  for (int64_t i = 0; i < config.num_layers && spec.gate_init == "centres"; ++i) {
    if (!config.is_moe_layer(i)) continue;
    construction::SetGatesToCentres(
        config, i,
        construction::NormalisedRows(dense.config, dense.parameters, i, spec.method.cluster_rows),
        split.partition.layers[i], parameters);
  }
  return Constructed{
      .config = config, .parameters = std::move(parameters), .calibration = {}, .table = {}};
}

std::vector<double> Scales(const artefacts::ModelConfig& config) {
  std::vector<double> scales;
  for (int64_t i = 0; i < config.num_layers && config.is_moe(); ++i) {
    scales.push_back(config.moe.ScaleFactor(i));
  }
  return scales;
}

}  // namespace

artefacts::MoeConfig ToMoeConfig(const ConstructSpec& spec, const artefacts::ModelConfig& dense) {
  artefacts::MoeConfig moe;
  moe.num_experts = spec.method.num_experts;
  moe.top_k = spec.top_k;
  moe.expert_width = spec.method.expert_width;
  moe.shared_width = spec.method.num_shared_experts * spec.method.expert_width;
  moe.gate_network = spec.gate_network;
  moe.score_scale_factor = spec.score_scale_factor;
  moe.learn_scale = spec.learn_scale;
  const std::vector<int64_t>& layers = spec.method.layers;
  for (int64_t i = 0; i < dense.num_layers && !layers.empty(); ++i) {
    if (!std::binary_search(layers.begin(), layers.end(), i)) moe.dense_layers.push_back(i);
  }
  return moe;
}

absl::StatusOr<Constructed> ConstructAsPublished(JobContext& context, const ConstructSpec& spec,
                                                 const model::LoadedModel& dense) {
  MOE_ASSIGN_OR_RETURN(const Input input, context.run.FindInput("model"));
  MOE_ASSIGN_OR_RETURN(const auto text, OpenText(context, spec.method, input, dense.config));
  const Constructed stopped{.config = {}, .parameters = {}, .calibration = {}, .table = {}};
  const absl::StatusOr<ModelPartition> split = construction::PartitionModel(
      dense.config, dense.parameters, text.get(), spec.method,
      [&](int64_t done, int64_t total, const char* unit) {
        ReportProgress(context.channel, done, total, unit, spec.method_name);
        return context.channel.stop_requested() == StopReason::kNone;
      });
  if (absl::IsCancelled(split.status())) return stopped;
  MOE_RETURN_IF_ERROR(split.status());
  Constructed made;
  if (construction::IsPruning(spec.method.method)) {
    made = Prune(dense, spec.method, *split);
  } else {
    MOE_ASSIGN_OR_RETURN(made, MakeMixture(context, spec, dense, *split));
  }
  if (context.channel.stop_requested() != StopReason::kNone) return stopped;
  made.table = construction::ReportTable(
      construction::ReportPartition(split->partition, dense.config.intermediate_size,
                                    split->scores.empty() ? nullptr : &split->scores),
      Scales(made.config));
  return made;
}

}  // namespace moe::rank
