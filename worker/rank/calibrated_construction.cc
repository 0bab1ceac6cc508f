#include "worker/rank/calibrated_construction.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <memory>
#include <utility>
#include <vector>

#include "common/status.h"
#include "worker/construction/calibrate.h"
#include "worker/construction/partition_model.h"
#include "worker/model/weights.h"
#include "worker/rank/artefacts.h"
#include "worker/rank/construct_partition.h"

namespace moe::rank {
namespace {

using construction::ModelPartition;
using construction::Neurons;

// By the method of `spec`, with the `shared` neurons of each layer set aside. Layers that stay
// dense may be left out.
absl::StatusOr<ModelPartition> CutLayers(JobContext& context, const ConstructSpec& spec,
                                         const model::LoadedModel& dense,
                                         const std::vector<Neurons>& shared,
                                         const std::vector<int64_t>& dense_layers) {
  std::vector<Neurons> dealt;
  for (const Neurons& taken : shared) {
    dealt.push_back(construction::NeuronsBut(taken, dense.config.intermediate_size));
  }
  ModelPartition split;
  if (construction::NeedsText(spec.method.method)) {
    MOE_ASSIGN_OR_RETURN(split,
                         PartitionByText(context, spec, dense.config, dense.parameters, dealt));
  } else {
    const auto weights = model::ArenaWeights(dense.config, dense.parameters);
    split.partition.layers.resize(dense.config.num_layers);
    for (int64_t i = 0; i < dense.config.num_layers; ++i) {
      if (std::binary_search(dense_layers.begin(), dense_layers.end(), i)) continue;
      ReportProgress(context.channel, i, dense.config.num_layers, "layers", spec.method_name);
      split.partition.layers[i] = construction::PartitionLayer(*weights, spec.method, i, dealt[i]);
      if (context.channel.stop_requested() != StopReason::kNone) return Cancelled("stopped");
    }
  }
  for (size_t i = 0; i < shared.size(); ++i) {
    Neurons& own = split.partition.layers[i].shared;
    own.insert(own.begin(), shared[i].begin(), shared[i].end());
  }
  return split;
}

Json ToJson(const construction::CalibratedModel& model, const std::string& dataset,
            int64_t tokens) {
  Json layers = Json::array();
  for (const construction::CalibratedLayer& layer : model.layers) {
    layers.push_back({{"stays_dense", layer.stays_dense},
                      {"sensitivity", layer.sensitivity},
                      {"relative_error", layer.relative_error},
                      {"scale", layer.scale}});
  }
  return {{"dataset", dataset},
          {"tokens", tokens},
          {"dense_loss", model.dense_loss},
          {"loss", model.loss},
          {"layers", std::move(layers)}};
}

}  // namespace

absl::StatusOr<Construction> PlanCalibrated(JobContext& context, const ConstructSpec& spec,
                                            const model::WeightSource& weights) {
  const CalibrationSpec& calibrate = *spec.calibrate;
  MOE_ASSIGN_OR_RETURN(
      const artefacts::ModelConfig plain,
      construction::MoeConfigFor(weights.config(), ToMoeConfig(spec, weights.config())));
  MOE_ASSIGN_OR_RETURN(const Input dataset, context.run.FindInput("calibrate.dataset"));
  MOE_ASSIGN_OR_RETURN(const at::Tensor sample_BS, ReadSample(context, "calibrate.dataset",
                                                              calibrate.tokens, weights.config()));
  const model::LoadedModel dense = model::ReadAll(weights);

  ConstructSpec routed = spec;
  routed.method.num_experts -= calibrate.shared_experts;
  const std::vector<Neurons> shared =
      construction::NeuronsToShare(dense.config, dense.parameters, sample_BS,
                                   calibrate.shared_experts * spec.method.expert_width);
  const artefacts::MoeConfig& moe = plain.moe;
  MOE_ASSIGN_OR_RETURN(ModelPartition split,
                       CutLayers(context, routed, dense, shared, moe.dense_layers));

  const double mixture_share =
      static_cast<double>(moe.top_k * moe.expert_width + moe.shared_width) /
      static_cast<double>(dense.config.intermediate_size);
  const construction::CalibrationOptions options{
      .fit = {.top_k = moe.top_k - calibrate.shared_experts,
              .compensate = calibrate.compensate,
              .fit_experts = calibrate.fit_experts,
              .mean_vector = calibrate.mean_vector},
      .gate_network = moe.gate_network,
      .learn_scale = moe.learn_scale,
      .dense_layers = moe.dense_layers,
      .num_dense_layers =
          std::max(std::ssize(moe.dense_layers),
                   construction::NumDenseLayers(calibrate.active_ffn_share, mixture_share,
                                                dense.config.num_layers))};
  const auto model = std::make_shared<const construction::CalibratedModel>(construction::Calibrate(
      dense.config, dense.parameters, options, split.partition, sample_BS,
      [&](int64_t done, int64_t total) {
        ReportProgress(context.channel, done, total, "layers", "calibrating");
        return context.channel.stop_requested() == StopReason::kNone;
      }));
  if (model->plans.empty()) return Cancelled("stopped");
  spdlog::info("calibrated tokens={} dense_loss={:.4f} loss={:.4f} dense_layers=[{}]",
               sample_BS.numel(), model->dense_loss, model->loss,
               fmt::join(model->config.moe.dense_layers, ", "));
  return Construction{
      .config = model->config,
      .plan_layer = [model](int64_t layer) -> absl::StatusOr<construction::LayerPlan> {
        return model->plans[layer];
      },
      .scores = std::move(split.scores),
      .calibration = ToJson(*model, dataset.display_name(), sample_BS.numel())};
}

}  // namespace moe::rank
