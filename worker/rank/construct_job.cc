// construct: a dense checkpoint to a mixture of experts.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include "common/clock.h"
#include "common/status.h"
#include "worker/construction/build.h"
#include "worker/construction/partition_model.h"
#include "worker/model/parameters.h"
#include "worker/rank/artefacts.h"
#include "worker/rank/calibrated_construction.h"
#include "worker/rank/job.h"
#include "worker/rank/published_construction.h"

namespace moe::rank {
namespace {

// The method's experts from those neurons of a layer that are left to deal.
construction::SplitLayer SplitOf(const ConstructSpec& spec, int64_t num_experts) {
  return [num_experts, seed = spec.method.seed](int64_t layer,
                                                const std::vector<int64_t>& neurons) {
    std::vector<std::vector<int64_t>> experts =
        construction::IndependentRandomLayer(layer, std::ssize(neurons), num_experts, seed).experts;
    for (std::vector<int64_t>& expert : experts) {
      for (int64_t& neuron : expert) neuron = neurons[neuron];
    }
    return experts;
  };
}

absl::StatusOr<Constructed> Construct(JobContext& context, const ConstructSpec& spec,
                                      const model::LoadedModel& dense) {
  if (!spec.calibrate.has_value()) return ConstructAsPublished(context, spec, dense);
  MOE_ASSIGN_OR_RETURN(const artefacts::ModelConfig plain,
                       construction::MoeConfigFor(dense.config, ToMoeConfig(spec, dense.config)));
  const int64_t routed_experts = spec.method.num_experts - spec.calibrate->shared_experts;
  return ConstructCalibrated(context, spec, dense, plain.moe, SplitOf(spec, routed_experts));
}

std::string Summary(const Constructed& model) {
  const artefacts::MoeConfig& moe = model.config.moe;
  const model::ParameterLayout layout(model.config);
  if (!model.config.is_moe()) {
    return fmt::format("{} layers, FFN width {}, {:.1f}M parameters", model.config.num_layers,
                       model.config.intermediate_size, layout.total_parameters() / 1e6);
  }
  std::string text =
      fmt::format("{} layers, {} experts of width {}, top-{}", model.config.num_layers,
                  moe.num_experts, moe.expert_width, moe.top_k);
  if (moe.shared_width > 0) text += fmt::format(", a shared one of width {}", moe.shared_width);
  if (!moe.dense_layers.empty()) {
    text += fmt::format(", dense in layers {}", fmt::join(moe.dense_layers, ", "));
  }
  text += fmt::format(", {:.1f}M parameters of which {:.1f}M are active",
                      layout.total_parameters() / 1e6, layout.active_parameters() / 1e6);
  if (!model.calibration.is_null()) {
    text += fmt::format(", loss {:.3f} (dense {:.3f}) on the calibration text",
                        model.calibration["loss"].get<double>(),
                        model.calibration["dense_loss"].get<double>());
  }
  return text;
}

}  // namespace

absl::StatusOr<JobOutcome> RunConstructJob(JobContext& context) {
  MOE_ASSIGN_OR_RETURN(ConstructSpec spec, ParseConstructSpec(context.run.spec));
  MOE_ASSIGN_OR_RETURN(const Input input, context.run.FindInput("model"));
  MOE_ASSIGN_OR_RETURN(const model::LoadedModel dense, LoadVerifiedModel(input));
  MOE_RETURN_IF_ERROR(construction::CompleteMethod(dense.config, spec.method));
  const int64_t layers = dense.config.num_layers;
  spdlog::info("loaded model={} layers={} ffn_width={}", input.path, layers,
               dense.config.intermediate_size);

  const RealClock clock;
  const int64_t start_ms = clock.MonotonicMillis();
  MOE_ASSIGN_OR_RETURN(const Constructed made, Construct(context, spec, dense));
  if (!made.parameters.defined()) {
    return JobOutcome{.stopped = context.channel.stop_requested()};
  }
  ReportProgress(context.channel, layers, layers, "layers", "writing");
  MOE_ASSIGN_OR_RETURN(Json metadata,
                       WriteModelFiles(made.config, made.parameters, dense.stored_dtype,
                                       dense.tokenizer_path, context.run.output));
  metadata["method"] = spec.method_name;
  if (!made.calibration.is_null()) metadata["calibration"] = made.calibration;
  if (!made.table.is_null()) metadata["table"] = made.table;
  const double seconds = static_cast<double>(clock.MonotonicMillis() - start_ms) / 1000;
  if (const absl::Status committed = HandIn(context.channel, context.run, metadata, seconds);
      !committed.ok()) {
    return StoppedOr(context.channel, committed);
  }
  return JobOutcome{.summary = Summary(made)};
}

}  // namespace moe::rank
