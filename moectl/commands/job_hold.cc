// moectl job hold, release, preempt and why: who runs when, and the reason.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <memory>
#include <string>
#include <vector>

#include "common/status.h"
#include "moectl/commands/commands.h"
#include "moectl/render/job_text.h"
#include "moectl/render/queue_table.h"

namespace moe::moectl {
namespace {

struct ChangeOptions {
  std::vector<std::string> names;
  std::string reason;
  std::string etag;
};

using Change =
    absl::StatusOr<moe::v1::Job> (CoordinatorClient::*)(const CoordinatorClient::JobWish&);

// Applies a change to jobs; of a pipeline, only to those that have not ended. Goes on after a
// refusal and returns the first one.
absl::StatusOr<ExitCode> ChangeJobs(const ChangeOptions& options, const CommandContext& context,
                                    Change change) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(const std::vector<moe::v1::Job> jobs,
                       client.ResolveJobs(WithoutNouns(options.names)));
  MOE_RETURN_IF_ERROR(CheckEtagOfOne(options.etag, jobs.size()));
  absl::Status first_problem;
  for (const moe::v1::Job& job : jobs) {
    if (jobs.size() > 1 && HasEnded(job.state())) continue;
    const auto changed =
        (client.*change)({.job = job.job_id(), .reason = options.reason, .etag = options.etag});
    if (changed.ok()) {
      context.world.out << fmt::format("job/{} {}{}", changed->job_id(),
                                       StateWord(changed->state()), changed->held() ? " held" : "")
                        << std::endl;
      continue;
    }
    if (first_problem.ok()) {
      first_problem = changed.status();
    } else {
      context.Note("moectl: " + Message(changed.status()));
    }
  }
  MOE_RETURN_IF_ERROR(first_problem);
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> Why(const std::string& name, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(const moe::v1::ExplainJobResponse why, client.ExplainJob(WithoutNoun(name)));
  std::ostream& out = context.world.out;
  const moe::v1::Job& job = why.job();
  out << fmt::format("job/{} ('{}') is {}", job.job_id(), job.spec().name(),
                     StateWord(job.state()));
  out << (job.reason().empty() ? "\n" : fmt::format(": {}\n", job.reason()));
  if (job.held())
    out << fmt::format("It is held; let it run with: moectl job release {}\n", job.job_id());
  if (job.state() != moe::v1::JOB_STATE_QUEUED) return ExitCode::kDone;
  out << fmt::format("Slots: wants {}; {} of {} are free\n", job.spec().resources().slots(),
                     why.free_slots(), why.total_slots());
  if (!why.queue().name().empty()) out << "Queue: " << RenderQueueUse(why.queue()) << "\n";
  if (why.has_full_queue() && why.full_queue().name() != why.queue().name()) {
    out << "Full: " << RenderQueueUse(why.full_queue()) << "\n";
  }
  if (why.ahead_job_ids().empty()) {
    out << fmt::format("Ahead of it: nobody (priority {})\n", job.spec().priority());
  } else {
    out << fmt::format("Ahead of it: {}\n", fmt::join(why.ahead_job_ids(), ", "));
  }
  if (!why.preempted_job_ids().empty()) {
    out << fmt::format("Gives way to it: {}\n", fmt::join(why.preempted_job_ids(), ", "));
  }
  if (why.has_retry_time()) {
    out << fmt::format("Back-off after a failure, until {}\n",
                       TimeText(MillisOf(why.retry_time())));
  }
  return ExitCode::kDone;
}

}  // namespace

void AddJobHold(CLI::App& job, CommandContext& context) {
  const auto add = [&](const char* name, const char* what, const char* footer, bool has_reason,
                       Change change) {
    auto options = std::make_shared<ChangeOptions>();
    CLI::App* command = job.add_subcommand(name, what);
    command->add_option("JOB", options->names, "Jobs (id or name) or pipelines (p4)")->required();
    if (has_reason) {
      command->add_option("--reason", options->reason, "Why, for the history")->type_name("TEXT");
    }
    AddEtagOption(*command, &options->etag);
    command->footer(footer);
    command->callback([options, &context, change] {
      context.run = [options, &context, change] { return ChangeJobs(*options, context, change); };
    });
  };
  add("hold", "Keep jobs from running until they are released",
      "A running job writes a checkpoint and gives its slots back first; released, it goes on "
      "from\n"
      "there.\n\n"
      "Example: moectl job hold train --reason 'the cluster is needed tonight'",
      true, &CoordinatorClient::HoldJob);
  add("release", "Let held jobs run", "Example: moectl job release train", false,
      &CoordinatorClient::ReleaseJob);
  add("preempt", "Take the slots of running jobs, which go back to the queue",
      "A training job writes a checkpoint first and goes on from it when there is room again.\n\n"
      "Example: moectl job preempt train",
      true, &CoordinatorClient::PreemptJob);

  auto name = std::make_shared<std::string>();
  CLI::App* why = job.add_subcommand("why", "Why a job does not run");
  why->add_option("JOB", *name, "Job (id or name)")->required();
  why->footer("Example: moectl job why train");
  why->callback(
      [name, &context] { context.run = [name, &context] { return Why(*name, context); }; });
}

}  // namespace moe::moectl
