// evaluate: perplexity per domain of one or more models.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <filesystem>

#include "common/clock.h"
#include "common/file.h"
#include "common/status.h"
#include "sampler/dataset.h"
#include "worker/evaluation/perplexity.h"
#include "worker/evaluation/perplexity_report.h"
#include "worker/model/model.h"
#include "worker/rank/artefacts.h"
#include "worker/rank/job.h"

namespace moe::rank {
namespace {

// What the user calls it, or the artefact's or the file's name.
std::string ColumnTitle(const std::string& label, const Input& input) {
  if (!label.empty()) return label;
  if (!input.artefact.empty()) return input.artefact;
  const std::filesystem::path path(input.path);
  return (path.has_filename() ? path : path.parent_path()).filename().string();
}

absl::Status CheckFits(const evaluation::PerplexityOptions& options,
                       const sampler::Dataset& dataset, const Input& dataset_input,
                       const model::LoadedModel& model, const Input& model_input) {
  MOE_RETURN_IF_ERROR(
      CheckVocabulary(dataset_input, dataset, model_input, model.config.vocab_size));
  if (options.sequence_length > model.config.context_length) {
    return InvalidArgument("sequence_length={} is more than the context of {}, {} tokens",
                           options.sequence_length, model_input.display_name(),
                           model.config.context_length);
  }
  return absl::OkStatus();
}

absl::Status OverrideTopK(int64_t top_k, const Input& input, artefacts::MoeConfig& moe) {
  if (top_k > moe.num_experts) {
    return InvalidArgument("top_k={} is above the {} experts of {}; use 1 to {}", top_k,
                           moe.num_experts, input.display_name(), moe.num_experts);
  }
  if (moe.is_switch() && top_k != 1) {
    return InvalidArgument("top_k={}: the switch gate of {} selects 1; leave it out", top_k,
                           input.display_name());
  }
  moe.top_k = top_k;
  return absl::OkStatus();
}

absl::Status WriteReportFiles(const evaluation::PerplexityReport& report, const std::string& dir) {
  MOE_RETURN_IF_ERROR(MakeDirectories(dir));
  MOE_RETURN_IF_ERROR(
      WriteFileAtomically(JoinPath(dir, "report.json"), evaluation::ToJson(report).dump(2) + "\n"));
  return WriteFileAtomically(JoinPath(dir, "report.md"), evaluation::ToMarkdown(report));
}

std::string Summary(const evaluation::PerplexityReport& report) {
  std::string text = "mean loss:";
  for (const evaluation::ModelLosses& model : report.models) {
    text += fmt::format("{} {} {:.4f}", &model == &report.models[0] ? "" : ",", model.label,
                        model.Total().MeanLoss());
  }
  return text;
}

}  // namespace

absl::StatusOr<JobOutcome> RunEvaluateJob(JobContext& context) {
  MOE_ASSIGN_OR_RETURN(const EvaluateSpec spec, ParseEvaluateSpec(context.run.spec));
  MOE_ASSIGN_OR_RETURN(const Input dataset_input, context.run.FindInput("dataset"));
  MOE_ASSIGN_OR_RETURN(const auto dataset, sampler::Dataset::Open(dataset_input.path));

  const model::ComputeType compute = ChooseCompute(spec.compute_dtype, context.device);
  evaluation::PerplexityReport report{
      .dataset = dataset_input.display_name(),
      .compute = ComputeName(compute),
      .options = {.sequence_length = spec.sequence_length,
                  .max_samples_per_domain = spec.max_samples_per_domain,
                  .batch_samples = spec.batch_samples,
                  .attention = spec.attention},
      .models = {}};
  const int64_t samples_per_model = evaluation::CountSamples(*dataset, report.options);
  if (samples_per_model == 0) {
    return InvalidArgument(
        "no domain of {} has {} held-out tokens, one sample: use a smaller sequence_length or a "
        "dataset with a larger heldout_fraction",
        dataset_input.display_name(), spec.sequence_length);
  }

  const int64_t total = samples_per_model * static_cast<int64_t>(spec.labels.size());
  int64_t done = 0;
  for (size_t i = 0; i < spec.labels.size(); ++i) {
    MOE_ASSIGN_OR_RETURN(const Input input, context.run.FindInput(fmt::format("models.{}", i)));
    const std::string label = ColumnTitle(spec.labels[i], input);
    ReportProgress(context.channel, done, total, "samples", "loading " + label);
    MOE_ASSIGN_OR_RETURN(model::LoadedModel loaded, LoadVerifiedModel(input, spec.weights[i]));
    if (spec.top_k.has_value() && loaded.config.is_moe()) {
      MOE_RETURN_IF_ERROR(OverrideTopK(*spec.top_k, input, loaded.config.moe));
    }
    MOE_RETURN_IF_ERROR(CheckFits(report.options, *dataset, dataset_input, loaded, input));
    model::Model model(loaded.config, {.compute = compute, .kernels = context.device.kernels()});
    model.SetParameters(loaded.parameters.to(model.device()));

    StopReason stop = StopReason::kNone;
    const auto keep_going = [&](int64_t samples) {
      ReportProgress(context.channel, done + samples, total, "samples", "evaluating " + label);
      stop = context.channel.stop_requested();
      return stop == StopReason::kNone;
    };
    report.models.push_back(
        {.label = label,
         .model = input.display_name(),
         .domains = evaluation::MeasureDomains(model, *dataset, report.options, keep_going)});
    if (stop != StopReason::kNone) return JobOutcome{.stopped = stop};
    done += samples_per_model;
    spdlog::info("evaluated model={} mean_loss={:.4f}", label,
                 report.models.back().Total().MeanLoss());
  }

  const RealClock clock;
  const int64_t start_ms = clock.MonotonicMillis();
  MOE_RETURN_IF_ERROR(WriteReportFiles(report, context.run.output.dir));
  const double seconds = static_cast<double>(clock.MonotonicMillis() - start_ms) / 1000;
  const Json metadata = {{"table", evaluation::Table(report)},
                         {"losses", evaluation::LossesByDomain(report)}};
  if (const absl::Status committed = HandIn(context.channel, context.run, metadata, seconds);
      !committed.ok()) {
    return StoppedOr(context.channel, committed);
  }
  return JobOutcome{.summary = Summary(report)};
}

}  // namespace moe::rank
