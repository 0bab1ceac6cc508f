// train and finetune: continual pre-training and instruction tuning, on one or more ranks.
#include <ATen/ops/zeros.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <memory>

#include "common/status.h"
#include "planner/expert_parallel.h"
#include "sampler/dataset.h"
#include "sampler/sample_sequence.h"
#include "worker/model/arena.h"
#include "worker/model/model.h"
#include "worker/parallel/communicator.h"
#include "worker/parallel/device_communicator.h"
#include "worker/parallel/gloo_communicator.h"
#include "worker/parallel/rendezvous.h"
#include "worker/parallel/single_rank.h"
#include "worker/rank/artefacts.h"
#include "worker/rank/job.h"
#include "worker/rank/mixture.h"
#include "worker/rank/probe.h"
#include "worker/training/ownership.h"
#include "worker/training/random_start.h"
#include "worker/training/trainer.h"

namespace moe::rank {
namespace {

// Trainer to run channel. Thread-safe, as the channel is.
class ChannelObserver final : public training::TrainObserver {
 public:
  explicit ChannelObserver(RunChannel& channel) : channel_(channel) {}

  StopReason stop_requested() override { return channel_.stop_requested(); }
  void OnPhase(int64_t done, const std::string& phase) override { channel_.Pulse(done, phase); }
  void OnStep(const training::StepReport& report) override {
    spdlog::info(
        "step={} loss={:.4f} balance_loss={:.4f} learning_rate={:.3e} gradient_norm={:.3f} "
        "tokens_per_second={:.0f}",
        report.step, report.loss, report.balance_loss, report.learning_rate, report.gradient_norm,
        report.tokens_per_second);
    for (const training::StepReport::Domain& domain : report.domains) {
      if (!domain.heldout_loss.has_value()) continue;
      spdlog::info("step={} domain={} heldout_loss={:.4f}", report.step, domain.name,
                   *domain.heldout_loss);
    }
    channel_.Report("step", ToJson(report));
  }
  void OnWarning(int64_t step, const std::string& kind, const std::string& text) override {
    spdlog::warn("step={} {}: {}", step, kind, text);
    channel_.Report("warning", {{"step", step}, {"kind", kind}, {"text", text}});
  }
  void OnCheckpoint(const training::WrittenCheckpoint& checkpoint) override {
    spdlog::info(
        "checkpoint step={} path={} size_bytes={} write_seconds={:.2f} "
        "blocked_seconds={:.3f}",
        checkpoint.step, checkpoint.path, checkpoint.size_bytes, checkpoint.write_seconds,
        checkpoint.blocked_seconds);
    channel_.Report("artefact", ToJson(checkpoint));
  }
  void OnCheckpointFailed(int64_t step, const absl::Status& status) override {
    spdlog::error("checkpoint step={} failed: {}", step, ToString(status));
    channel_.Report("checkpoint_failed", {{"step", step}, {"error", Message(status)}});
  }
  absl::Status WaitForCommit(const std::string& path) override {
    return channel_.WaitForCommit(path);
  }

 private:
  RunChannel& channel_;
};

// The model's config with what the spec decides about routing and positions.
artefacts::ModelConfig TrainConfig(artefacts::ModelConfig config, const TrainSpec& spec) {
  if (!spec.rope_scaling.type.empty()) {
    const int64_t original = config.rope_scaling.type.empty()
                                 ? config.context_length
                                 : config.rope_scaling.original_context;
    config.rope_scaling = spec.rope_scaling;
    config.rope_scaling.original_context = original;
    config.context_length =
        static_cast<int64_t>(static_cast<double>(original) * spec.rope_scaling.factor);
  }
  if (!config.is_moe()) return config;
  config.moe.balance_loss_weight = spec.balance_loss_weight;
  config.moe.add_noise = spec.gate_noise;
  return config;
}

absl::Status CheckKindOfDataset(const TrainSpec& spec, const sampler::Dataset& dataset,
                                const Input& input) {
  if (dataset.has_conversations() == spec.is_finetune) return absl::OkStatus();
  if (spec.is_finetune) {
    return InvalidArgument(
        "the dataset {} holds running text and a finetune job needs conversations: prepare it with "
        "`conversations`, or use train",
        input.display_name());
  }
  return InvalidArgument(
      "the dataset {} holds conversations and a train job needs running text: use finetune, or "
      "prepare it without `conversations`",
      input.display_name());
}

// Fills in what depends on the number of conversations: the steps, and the warm-up that goes with
// them (3 %, as published).
void CompleteSteps(const sampler::SampleSequence& sequence, TrainSpec& spec) {
  if (spec.epochs > 0) {
    int64_t samples = 0;
    for (const sampler::SampleSequence::Domain& domain : sequence.domains()) {
      if (domain.weight > 0) samples += domain.num_samples;
    }
    const double steps = std::ceil(spec.epochs * static_cast<double>(samples) /
                                   static_cast<double>(spec.global_batch_samples));
    spec.steps = std::max<int64_t>(1, static_cast<int64_t>(steps));
  }
  if (!spec.warmup_steps.has_value()) {
    spec.warmup_steps = static_cast<int64_t>(std::ceil(0.03 * static_cast<double>(spec.steps)));
  }
}

training::TrainOptions ToTrainOptions(const TrainSpec& spec, const RunSpec& run,
                                      const std::string& tokenizer_folder, double peak_flops) {
  return {
      .steps = spec.steps,
      .sequence_length = spec.sequence_length,
      .global_batch_samples = spec.global_batch_samples,
      .micro_batch_samples = spec.micro_batch_samples,
      .attention = spec.attention,
      .schedule = {.peak_learning_rate = spec.learning_rate,
                   .final_ratio = spec.final_learning_rate_ratio,
                   .warmup_steps = *spec.warmup_steps,
                   .total_steps = spec.steps},
      .adamw = {.beta1 = spec.beta1,
                .beta2 = spec.beta2,
                .epsilon = spec.epsilon,
                .weight_decay = spec.weight_decay},
      .clip_norm = spec.clip_norm,
      .seed = spec.seed,
      .checkpoint_interval_steps = spec.checkpoint_interval_steps,
      .checkpoint = {.folder = run.output.dir,
                     .name = run.output.name,
                     .job_id = run.job_id,
                     .attempt = run.attempt,
                     .inputs = run.InputNames(),
                     .tokenizer_folder = tokenizer_folder},
      .learning_rate_ratios = {spec.learning_rate_ratios.begin(), spec.learning_rate_ratios.end()},
      .watch = spec.watch,
      .peak_flops_per_rank = peak_flops,
      .validation = {.interval_steps = spec.validation_interval_steps,
                     .heldout_samples = spec.validation_heldout_samples},
      .weight_average = {.decay = spec.average_decay,
                         .start_step = spec.average_start_step.value_or(*spec.warmup_steps)},
      .collective_timeout_ms = spec.collective_timeout_ms};
}

std::unique_ptr<parallel::Communicator> Connect(JobContext& context, int64_t timeout_ms,
                                                parallel::Rendezvous& rendezvous) {
  if (context.run.world_size == 1) return std::make_unique<parallel::SingleRankCommunicator>();
  const parallel::GlooCommunicator::Options options = {.rank = context.channel.rank(),
                                                       .world_size = context.run.world_size,
                                                       .host = context.host,
                                                       .timeout_ms = timeout_ms};
  auto hosts = std::make_unique<parallel::GlooCommunicator>(options, rendezvous);
  const std::shared_ptr<const Gpu> gpu = context.device.gpu;
  if (gpu == nullptr) return hosts;
  return std::make_unique<parallel::DeviceCommunicator>(
      std::move(hosts), [gpu](parallel::Communicator& of_hosts) {
        cuda::NcclId id = {};
        if (of_hosts.rank() == 0) id = gpu->plugin->MakeNcclId();
        of_hosts.BroadcastBytes(&id, sizeof id, /*root=*/0);
        return gpu->plugin->MakeNcclCommunicator(id, gpu->number, of_hosts.rank(),
                                                 of_hosts.world_size());
      });
}

// The arena that `to` asks for: the loaded one, or where gate noise is switched on or off a new one
// without, or with zero, noise weights.
at::Tensor StartParameters(const model::LoadedModel& loaded, const artefacts::ModelConfig& config,
                           const model::ParameterLayout& to) {
  if (loaded.config.moe.add_noise == config.moe.add_noise) return loaded.parameters;
  const model::ParameterLayout from(loaded.config, to.share());
  at::Tensor parameters = at::zeros({to.arena_numel()}, at::kFloat);
  model::CopyShared(from, loaded.parameters, to, parameters);
  return parameters;
}

}  // namespace

absl::StatusOr<JobOutcome> RunTrainJob(JobContext& context) {
  const RunSpec& run = context.run;
  MOE_ASSIGN_OR_RETURN(TrainSpec spec, ParseTrainSpec(run.spec, run.kind));
  MOE_ASSIGN_OR_RETURN(const Input model_input, run.FindInput("model"));
  MOE_ASSIGN_OR_RETURN(const Input dataset_input, run.FindInput("dataset"));
  MOE_ASSIGN_OR_RETURN(const artefacts::ModelConfig model_config,
                       artefacts::ReadModelConfig(model_input.path));
  const artefacts::ModelConfig config = TrainConfig(model_config, spec);
  MOE_ASSIGN_OR_RETURN(const auto dataset, sampler::Dataset::Open(dataset_input.path));
  MOE_RETURN_IF_ERROR(CheckVocabulary(dataset_input, *dataset, model_input, config.vocab_size));
  MOE_RETURN_IF_ERROR(CheckKindOfDataset(spec, *dataset, dataset_input));
  MOE_ASSIGN_OR_RETURN(const sampler::SampleSequence sequence,
                       MakeSequence(spec, *dataset, dataset_input));
  CompleteSteps(sequence, spec);
  if (spec.continues && !run.resume.has_value()) {
    return InvalidArgument("run.json: spec.start is 'continue' and resume is missing");
  }

  MOE_RETURN_IF_ERROR(planner::CheckExpertGroups(spec.expert_parallel, run.world_size));
  MOE_RETURN_IF_ERROR(planner::CheckExpertShares(config, spec.expert_parallel));
  const model::ExpertShare share = training::ShareOf(context.channel.rank(), spec.expert_parallel);
  const model::ComputeType compute = ChooseCompute(spec.compute_dtype, context.device);
  model::Model model(
      config, {.compute = compute,
               .load_estimator = spec.load_estimator == "compat" ? model::LoadEstimator::kCompat
                                                                 : model::LoadEstimator::kCorrect,
               .experts = share,
               .kernels = context.device.kernels()});
  training::TrainOptions options =
      ToTrainOptions(spec, run, model_input.path, MeasurePeakFlops(compute, context.device));
  MOE_ASSIGN_OR_RETURN(options.dynamic, ToDynamicOptions(spec, run, sequence));
  MOE_RETURN_IF_ERROR(training::Validate(options, model, *dataset, run.world_size));
  parallel::RunChannelRendezvous rendezvous(context.channel);
  const std::unique_ptr<parallel::Communicator> communicator =
      Connect(context, spec.collective_timeout_ms, rendezvous);
  if (context.channel.rank() == 0) {
    ReportProgress(context.channel, run.resume.has_value() ? run.resume->step : 0, spec.steps,
                   "steps", "loading");
  }
  ChannelObserver observer(context.channel);
  ChannelDecisions decisions(context.channel, sequence);
  training::Trainer trainer(options, {.model = model,
                                      .dataset = *dataset,
                                      .sequence = sequence,
                                      .communicator = *communicator,
                                      .observer = observer,
                                      .decisions = &decisions});
  if (run.resume.has_value()) {
    spdlog::info("resuming step={} path={}", run.resume->step, run.resume->path);
    trainer.Resume(run.resume->path, run.resume->manifest_crc32c);
  } else if (spec.random_start) {
    spdlog::info("starting from random weights seed={}", spec.seed);
    trainer.Start(training::RandomStart(config, spec.seed, share));
  } else {
    MOE_ASSIGN_OR_RETURN(const model::LoadedModel loaded,
                         LoadVerifiedModel(model_input, model::WhichWeights::kLatest, share));
    trainer.Start(StartParameters(loaded, config, model.layout()));
  }
  const training::TrainResult result = [&] {
    try {
      return trainer.Run();
    } catch (const parallel::CollectiveError&) {
      // The checkpoint's thread may be waiting for the same rank, for as long as a slow disk may
      // take; the failure is not to wait for it.
      FailNow(context.channel, CurrentExceptionFailure());
    }
  }();
  return JobOutcome{.stopped = result.stopped,
                    .summary = fmt::format("{} steps, {} tokens, last loss {:.4f}", result.step,
                                           result.tokens, result.last_loss)};
}

}  // namespace moe::rank
