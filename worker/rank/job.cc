#include "worker/rank/job.h"

#include "common/status.h"

namespace moe::rank {

absl::StatusOr<JobOutcome> RunJob(JobContext& context) {
  const RunSpec& run = context.run;
  if (run.kind == "train" || run.kind == "finetune") return RunTrainJob(context);
  if (run.world_size != 1) {
    return InvalidArgument(
        "world_size={}: a {} job runs on one rank; only train and finetune use more",
        run.world_size, run.kind);
  }
  if (run.kind == "construct") return RunConstructJob(context);
  if (run.kind == "evaluate") return RunEvaluateJob(context);
  if (run.kind == "export") return RunExportJob(context);
  return InvalidArgument(
      "run.json: kind: \"{}\" is not a job of moe-rank; use one of construct, train, finetune, "
      "evaluate, export",
      run.kind);
}

absl::StatusOr<JobOutcome> StoppedOr(RunChannel& channel, const absl::Status& status) {
  const StopReason stop = channel.stop_requested();
  if (stop != StopReason::kNone) return JobOutcome{.stopped = stop};
  return status;
}

void ReportProgress(RunChannel& channel, int64_t done, int64_t total, const std::string& unit,
                    const std::string& phase) {
  channel.Report("progress", {{"done", done}, {"total", total}, {"unit", unit}, {"phase", phase}});
}

}  // namespace moe::rank
