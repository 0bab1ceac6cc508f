// export: a checkpoint or a model to a Hugging Face folder.
#include <fmt/format.h>

#include "common/clock.h"
#include "common/status.h"
#include "worker/model/parameters.h"
#include "worker/rank/artefacts.h"
#include "worker/rank/job.h"

namespace moe::rank {
namespace {

artefacts::DType ToDType(const std::string& name) {
  if (name == "bf16") return artefacts::DType::kBf16;
  if (name == "fp16") return artefacts::DType::kF16;
  return artefacts::DType::kF32;
}

// The model in the format that the spec asks for. Returns the manifest's metadata.
absl::StatusOr<Json> Write(const model::LoadedModel& model, const ExportSpec& spec,
                           const Output& output) {
  const artefacts::DType dtype = ToDType(spec.dtype);
  if (spec.format == "mixtral" || spec.format == "qwen2-moe") {
    const auto architecture = spec.format == "mixtral" ? model::NativeArchitecture::kMixtral
                                                       : model::NativeArchitecture::kQwen2Moe;
    MOE_ASSIGN_OR_RETURN(const model::NativeModel native,
                         model::ToNative(architecture, model.config, model.parameters));
    return WriteNativeModelFiles(native, dtype, model.tokenizer_path, output);
  }
  if (spec.format == "llama") {
    MOE_ASSIGN_OR_RETURN(const model::DenseModel dense,
                         model::ToDense(model.config, model.parameters));
    return WriteModelFiles(dense.config, dense.parameters, dtype, model.tokenizer_path, output);
  }
  return WriteModelFiles(model.config, model.parameters, dtype, model.tokenizer_path, output);
}

}  // namespace

absl::StatusOr<JobOutcome> RunExportJob(JobContext& context) {
  MOE_ASSIGN_OR_RETURN(const ExportSpec spec, ParseExportSpec(context.run.spec));
  MOE_ASSIGN_OR_RETURN(const Input input, context.run.FindInput("model"));
  ReportProgress(context.channel, 0, 2, "phases", "reading");
  MOE_ASSIGN_OR_RETURN(const model::LoadedModel model, LoadVerifiedModel(input, spec.weights));
  if (const StopReason stop = context.channel.stop_requested(); stop != StopReason::kNone) {
    return JobOutcome{.stopped = stop};
  }
  ReportProgress(context.channel, 1, 2, "phases", "writing and reading back");
  const RealClock clock;
  const int64_t start_ms = clock.MonotonicMillis();
  MOE_ASSIGN_OR_RETURN(const Json metadata, Write(model, spec, context.run.output));
  const double seconds = static_cast<double>(clock.MonotonicMillis() - start_ms) / 1000;
  if (const absl::Status committed = HandIn(context.channel, context.run, metadata, seconds);
      !committed.ok()) {
    return StoppedOr(context.channel, committed);
  }
  ReportProgress(context.channel, 2, 2, "phases", "done");
  const model::ParameterLayout layout(model.config);
  return JobOutcome{.summary =
                        fmt::format("{:.1f}M parameters as {} {} in {}, read back bit for bit",
                                    layout.total_parameters() / 1e6, spec.dtype, spec.format,
                                    context.run.output.dir)};
}

}  // namespace moe::rank
