// moectl job cancel: the wish that jobs end.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "common/status.h"
#include "moectl/commands/commands.h"
#include "moectl/commands/job_watch.h"
#include "moectl/render/job_text.h"

namespace moe::moectl {
namespace {

struct CancelOptions {
  std::vector<std::string> names;
  std::string reason;
  std::string etag;
  bool wait = false;
};

void PrintState(const CommandContext& context, const moe::v1::Job& job) {
  context.world.out << fmt::format("job/{} {}", job.job_id(), StateWord(job.state())) << std::endl;
}

absl::StatusOr<ExitCode> Cancel(const CancelOptions& options, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(std::vector<moe::v1::Job> jobs,
                       client.ResolveJobs(WithoutNouns(options.names)));
  // Later jobs of a pipeline first: once what they need is cancelled they would fail instead.
  std::reverse(jobs.begin(), jobs.end());
  const bool single = jobs.size() == 1;
  MOE_RETURN_IF_ERROR(CheckEtagOfOne(options.etag, jobs.size()));
  if (!single && std::all_of(jobs.begin(), jobs.end(),
                             [](const moe::v1::Job& job) { return HasEnded(job.state()); })) {
    context.Note("nothing to cancel: all of these jobs have ended");
  }
  absl::Status first_problem;
  std::vector<moe::v1::Job> stopping;
  for (const moe::v1::Job& job : jobs) {
    // Of a pipeline, what is over is left alone; a job named by itself gets the server's answer.
    if (!single && HasEnded(job.state())) continue;
    const auto cancelled =
        client.CancelJob({.job = job.job_id(), .reason = options.reason, .etag = options.etag});
    if (cancelled.ok()) {
      PrintState(context, *cancelled);
      if (!HasEnded(cancelled->state())) stopping.push_back(*cancelled);
      continue;
    }
    const absl::Status problem = cancelled.status();
    if (!first_problem.ok()) context.Note("moectl: " + Message(problem));
    if (first_problem.ok()) first_problem = problem;
  }
  MOE_RETURN_IF_ERROR(first_problem);
  if (!options.wait || stopping.empty()) return ExitCode::kDone;
  MOE_ASSIGN_OR_RETURN(const ExitCode code,
                       FollowJobs(context, client, stopping, WatchStyle::kSilent));
  if (code == ExitCode::kInterrupted) return code;
  for (const moe::v1::Job& job : stopping) {
    MOE_ASSIGN_OR_RETURN(const moe::v1::Job ended, client.GetJob(job.job_id()));
    PrintState(context, ended);
  }
  // That the jobs are cancelled is what was wanted.
  return ExitCode::kDone;
}

}  // namespace

void AddJobCancel(CLI::App& job, CommandContext& context) {
  auto options = std::make_shared<CancelOptions>();
  CLI::App* command = job.add_subcommand("cancel", "End jobs before they are done");
  command->add_option("JOB", options->names, "Jobs (id or name) or pipelines (p4)")->required();
  command->add_option("--reason", options->reason, "Why, for the history")->type_name("TEXT");
  AddEtagOption(*command, &options->etag);
  command->add_flag("--wait", options->wait, "Return when the ranks are gone");
  command->footer(
      "Returns as soon as the wish is durable; a running job is stopping until its ranks are\n"
      "gone.\n\n"
      "Examples:\n"
      "  moectl job cancel train\n"
      "  moectl job cancel p4 --reason 'wrong corpus'");
  command->callback([options, &context] {
    context.run = [options, &context] { return Cancel(*options, context); };
  });
}

}  // namespace moe::moectl
