#include "worker/rank/published_construction.h"

#include <spdlog/spdlog.h>

#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "common/status.h"
#include "worker/construction/partition_model.h"
#include "worker/construction/residual_stream.h"
#include "worker/construction/train_gate.h"
#include "worker/model/weights.h"
#include "worker/rank/construct_partition.h"

namespace moe::rank {
namespace {

using construction::LayerPartition;
using construction::LayerPlan;
using construction::Neurons;

absl::StatusOr<artefacts::ModelConfig> ConfigFor(const ConstructSpec& spec,
                                                 const artefacts::ModelConfig& dense) {
  if (!construction::IsPruning(spec.method.method)) {
    return construction::MoeConfigFor(dense, ToMoeConfig(spec, dense));
  }
  artefacts::ModelConfig pruned = dense;
  pruned.intermediate_size = spec.method.expert_width;
  return pruned;
}

// `plan`, decided for all layers, with gates that are trained from those that it has.
absl::StatusOr<Construction> WithTrainedGates(JobContext& context, const ConstructSpec& spec,
                                              const model::WeightSource& weights,
                                              Construction plan) {
  const GateTrainingSpec& training = *spec.gate_training;
  MOE_ASSIGN_OR_RETURN(const at::Tensor sample_BS, ReadSample(context, "gate_training.dataset",
                                                              training.tokens, weights.config()));
  const model::LoadedModel loaded = model::ReadAll(weights);
  const construction::DenseModel dense(loaded.config, loaded.parameters, sample_BS.size(1));
  construction::ResidualStream stream(dense, sample_BS);
  auto plans = std::make_shared<std::vector<LayerPlan>>(loaded.config.num_layers);
  for (int64_t i = 0; i < loaded.config.num_layers; ++i) {
    ReportProgress(context.channel, i, loaded.config.num_layers, "layers", "training gates");
    if (context.channel.stop_requested() != StopReason::kNone) return Cancelled("stopped");
    const at::Tensor x_Td = stream.Attend(i);
    if (plan.config.is_moe_layer(i)) {
      LayerPlan& layer = (*plans)[i];
      MOE_ASSIGN_OR_RETURN(layer, plan.plan_layer(i));
      construction::TrainedGate gate = construction::TrainGate(
          training.options, i, x_Td,
          construction::ExpertActivity(dense.Neurons(i, x_Td), layer.partition,
                                       training.options.teacher),
          std::move(layer.replaced));
      spdlog::info("trained gate layer={} accuracy_before={:.3f} accuracy={:.3f}", i,
                   gate.accuracy_before, gate.accuracy);
      layer.replaced = std::move(gate.weights);
    }
    stream.Add(dense.Output(i, x_Td));
  }
  plan.plan_layer = [plans](int64_t layer) -> absl::StatusOr<LayerPlan> { return (*plans)[layer]; };
  return plan;
}

}  // namespace

absl::StatusOr<Construction> PlanAsPublished(JobContext& context, const ConstructSpec& spec,
                                             const model::WeightSource& dense) {
  const construction::MethodOptions& method = spec.method;
  Construction plan;
  MOE_ASSIGN_OR_RETURN(plan.config, ConfigFor(spec, dense.config()));
  plan.options = {.seed = method.seed, .shared_scale_factor = spec.shared_scale_factor};
  const Neurons all = construction::AllNeurons(dense.config().intermediate_size);
  std::function<LayerPartition(int64_t)> partition_of = [&spec, &dense, all](int64_t layer) {
    return construction::PartitionLayer(dense, spec.method, layer, all);
  };
  if (construction::NeedsText(method.method)) {
    // The model is in memory for the passes over the text, and no longer.
    const at::Tensor parameters = model::ReadAll(dense).parameters;
    MOE_ASSIGN_OR_RETURN(construction::ModelPartition split,
                         PartitionByText(context, spec, dense.config(), parameters,
                                         std::vector<Neurons>(dense.config().num_layers, all)));
    plan.scores = std::move(split.scores);
    partition_of = [partition = std::move(split.partition)](int64_t layer) {
      return partition.layers[layer];
    };
  }
  plan.plan_layer = [&spec, &dense, partition_of = std::move(partition_of)](
                        int64_t layer) -> absl::StatusOr<LayerPlan> {
    LayerPlan made{.partition = partition_of(layer)};
    if (spec.gate_init != "random") {
      made.replaced = construction::GateAtCentres(
          construction::NormalisedRows(dense, layer, spec.method.cluster_rows),
          dense.config().hidden_size, made.partition, spec.gate_network);
    }
    return made;
  };
  if (spec.gate_training.has_value()) return WithTrainedGates(context, spec, dense, plan);
  return plan;
}

}  // namespace moe::rank
