#include "worker/rank/calibrated_construction.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "sampler/dataset.h"
#include "worker/construction/calibration_sample.h"
#include "worker/rank/artefacts.h"

namespace moe::rank {
namespace {

// Calibration reads samples of this length, or of the model's context where that is less.
constexpr int64_t kCalibrationSequence = 512;

// The dataset's tokens that calibration reads.
absl::StatusOr<at::Tensor> ReadSample(const Input& input, const CalibrationSpec& spec,
                                      const artefacts::ModelConfig& dense,
                                      const std::string& model_name) {
  MOE_ASSIGN_OR_RETURN(const auto dataset, sampler::Dataset::Open(input.path));
  MOE_RETURN_IF_ERROR(
      CheckVocabulary(input.display_name(), dataset->vocab_size(), model_name, dense.vocab_size));
  return construction::CalibrationSample(*dataset, spec.tokens,
                                         std::min(kCalibrationSequence, dense.context_length));
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

absl::StatusOr<Constructed> ConstructCalibrated(JobContext& context, const ConstructSpec& spec,
                                                const model::LoadedModel& dense,
                                                const artefacts::MoeConfig& plain,
                                                const construction::SplitLayer& split) {
  const CalibrationSpec& calibrate = *spec.calibrate;
  MOE_ASSIGN_OR_RETURN(const Input model_input, context.run.FindInput("model"));
  MOE_ASSIGN_OR_RETURN(const Input dataset, context.run.FindInput("calibrate.dataset"));
  MOE_ASSIGN_OR_RETURN(const at::Tensor sample_BS,
                       ReadSample(dataset, calibrate, dense.config, model_input.display_name()));

  const construction::CalibrationOptions options{
      .fit = {.num_experts = plain.num_experts - calibrate.shared_experts,
              .top_k = plain.top_k - calibrate.shared_experts,
              .shared_width = calibrate.shared_experts * plain.expert_width,
              .compensate = calibrate.compensate,
              .mean_vector = calibrate.mean_vector},
      .gate_network = plain.gate_network,
      .learn_scale = plain.learn_scale,
      .num_dense_layers = construction::NumDenseLayers(
          calibrate.active_ffn_share,
          static_cast<double>(plain.top_k) / static_cast<double>(plain.num_experts),
          dense.config.num_layers)};
  const construction::CalibratedModel model = construction::Calibrate(
      dense.config, dense.parameters, options, sample_BS, split, [&](int64_t done, int64_t total) {
        ReportProgress(context.channel, done, total, "layers", "calibrating");
        return context.channel.stop_requested() == StopReason::kNone;
      });
  Constructed result{
      .config = model.config, .parameters = model.parameters, .calibration = {}, .table = {}};
  if (!result.parameters.defined()) return result;
  result.calibration = ToJson(model, dataset.display_name(), sample_BS.numel());
  spdlog::info("calibrated tokens={} dense_loss={:.4f} loss={:.4f} dense_layers=[{}]",
               sample_BS.numel(), model.dense_loss, model.loss,
               fmt::join(model.config.moe.dense_layers, ", "));
  return result;
}

}  // namespace moe::rank
