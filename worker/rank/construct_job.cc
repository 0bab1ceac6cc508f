// construct: a dense checkpoint to a mixture of experts.
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <spdlog/spdlog.h>

#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/status.h"
#include "worker/construction/build.h"
#include "worker/construction/partition_model.h"
#include "worker/construction/report.h"
#include "worker/construction/write_behind.h"
#include "worker/model/parameters.h"
#include "worker/model/weight_source.h"
#include "worker/rank/artefacts.h"
#include "worker/rank/calibrated_construction.h"
#include "worker/rank/job.h"
#include "worker/rank/published_construction.h"

namespace moe::rank {
namespace {

absl::StatusOr<Construction> Plan(JobContext& context, const ConstructSpec& spec,
                                  const model::WeightSource& dense) {
  return spec.calibrate.has_value() ? PlanCalibrated(context, spec, dense)
                                    : PlanAsPublished(context, spec, dense);
}

// Makes and writes the model, layer by layer. `partition` is filled with what its layers hold.
absl::StatusOr<StreamedModel> Write(JobContext& context, const model::WeightSource& dense,
                                    const Construction& plan, construction::Partition& partition) {
  const int64_t layers = dense.config().num_layers;
  partition.layers.resize(layers);
  const construction::PlanLayer plan_layer =
      [&](int64_t layer) -> absl::StatusOr<construction::LayerPlan> {
    ReportProgress(context.channel, layer, layers, "layers", "writing");
    if (context.channel.stop_requested() != StopReason::kNone) return Cancelled("stopped");
    MOE_ASSIGN_OR_RETURN(construction::LayerPlan made, plan.plan_layer(layer));
    partition.layers[layer] = made.partition;
    return made;
  };
  const auto write = [&](model::HfWriter& writer) -> absl::Status {
    construction::WriteBehind behind(
        [&](const uint8_t* bytes, uint64_t size) { return writer.Append(bytes, size); });
    MOE_RETURN_IF_ERROR(
        construction::Build(dense, plan.config, plan.options, plan_layer,
                            [&](const model::Parameter&, kernels::Buffer<uint8_t>& bytes,
                                uint64_t size) { return behind.Append(bytes, size); }));
    return behind.Finish();
  };
  return StreamModelFiles(plan.config, dense.dtype(), dense.tokenizer_path(), context.run.output,
                          write);
}

std::vector<double> Scales(const artefacts::ModelConfig& config) {
  std::vector<double> scales;
  for (int64_t i = 0; i < config.num_layers && config.is_moe(); ++i) {
    scales.push_back(config.moe.ScaleFactor(i));
  }
  return scales;
}

std::string Summary(const Construction& model) {
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
  MOE_RETURN_IF_ERROR(VerifyInput(input));
  MOE_ASSIGN_OR_RETURN(const auto dense, model::OpenWeights(input.path));
  MOE_RETURN_IF_ERROR(construction::CompleteMethod(dense->config(), spec.method));
  const int64_t layers = dense->config().num_layers, width = dense->config().intermediate_size;
  spdlog::info("opened model={} layers={} ffn_width={}", input.path, layers, width);

  const RealClock clock;
  const int64_t start_ms = clock.MonotonicMillis();
  const absl::StatusOr<Construction> plan = Plan(context, spec, *dense);
  if (!plan.ok()) return StoppedOr(context.channel, plan.status());
  construction::Partition partition;
  absl::StatusOr<StreamedModel> model = Write(context, *dense, *plan, partition);
  if (!model.ok()) return StoppedOr(context.channel, model.status());
  ReportProgress(context.channel, layers, layers, "layers", "done");

  Json& metadata = model->metadata;
  metadata["method"] = spec.method_name;
  if (!plan->calibration.is_null()) metadata["calibration"] = plan->calibration;
  metadata["table"] = construction::ReportTable(
      construction::ReportPartition(partition, width,
                                    plan->scores.empty() ? nullptr : &plan->scores),
      Scales(plan->config));
  const double seconds = static_cast<double>(clock.MonotonicMillis() - start_ms) / 1000;
  if (const absl::Status committed =
          HandIn(context.channel, context.run, metadata, seconds, std::move(model->files));
      !committed.ok()) {
    return StoppedOr(context.channel, committed);
  }
  return JobOutcome{.summary = Summary(*plan)};
}

}  // namespace moe::rank
