// construct: a dense checkpoint to a mixture of experts.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include "common/clock.h"
#include "common/status.h"
#include "worker/construction/build.h"
#include "worker/construction/partition.h"
#include "worker/model/parameters.h"
#include "worker/rank/artefacts.h"
#include "worker/rank/job.h"

namespace moe::rank {
namespace {

artefacts::MoeConfig ToMoeConfig(const ConstructSpec& spec) {
  artefacts::MoeConfig moe;
  moe.num_experts = spec.num_experts;
  moe.top_k = spec.top_k;
  moe.gate_network = spec.gate_network;
  moe.score_scale_factor = spec.score_scale_factor;
  return moe;
}

}  // namespace

absl::StatusOr<JobOutcome> RunConstructJob(JobContext& context) {
  MOE_ASSIGN_OR_RETURN(const ConstructSpec spec, ParseConstructSpec(context.run.spec));
  MOE_ASSIGN_OR_RETURN(const Input input, context.run.FindInput("model"));
  MOE_ASSIGN_OR_RETURN(const model::LoadedModel dense, LoadVerifiedModel(input));
  MOE_ASSIGN_OR_RETURN(const artefacts::ModelConfig config,
                       construction::MoeConfigFor(dense.config, ToMoeConfig(spec)));
  const int64_t layers = config.num_layers;
  spdlog::info("loaded model={} layers={} ffn_width={}", input.path, layers,
               dense.config.intermediate_size);

  const RealClock clock;
  const int64_t start_ms = clock.MonotonicMillis();
  const construction::Partition partition = construction::IndependentRandom(
      layers, dense.config.intermediate_size, spec.num_experts, spec.seed);
  const at::Tensor parameters = construction::BuildMoe(
      dense.config, dense.parameters, config, partition, spec.seed, [&](int64_t layers_done) {
        ReportProgress(context.channel, layers_done, layers, "layers", "slicing experts");
      });
  if (const StopReason stop = context.channel.stop_requested(); stop != StopReason::kNone) {
    return JobOutcome{.stopped = stop};
  }
  ReportProgress(context.channel, layers, layers, "layers", "writing");
  MOE_ASSIGN_OR_RETURN(const Json metadata,
                       WriteModelFiles(config, parameters, dense.stored_dtype, dense.tokenizer_path,
                                       context.run.output));
  const double seconds = static_cast<double>(clock.MonotonicMillis() - start_ms) / 1000;
  if (const absl::Status committed = HandIn(context.channel, context.run, metadata, seconds);
      !committed.ok()) {
    return StoppedOr(context.channel, committed);
  }
  const model::ParameterLayout layout(config);
  return JobOutcome{.summary = fmt::format(
                        "{} layers, {} experts of width {}, top-{}, {:.1f}M parameters of which "
                        "{:.1f}M are active",
                        layers, spec.num_experts, config.moe.expert_width, spec.top_k,
                        layout.total_parameters() / 1e6, layout.active_parameters() / 1e6)};
}

}  // namespace moe::rank
