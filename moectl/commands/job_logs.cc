// moectl job logs: what the ranks of a job wrote.
#include <fmt/format.h>

#include <memory>
#include <string>

#include "common/status.h"
#include "moectl/commands/commands.h"
#include "moectl/follow_stream.h"

namespace moe::moectl {
namespace {

struct LogsOptions {
  std::string job;
  int rank = 0;
  int attempt = 0;
  bool follow = false;
};

absl::StatusOr<ExitCode> Logs(const LogsOptions& options, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(const auto timeout_ms, context.TimeoutMillis());
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  // Tells at once where there is no coordinator or no job, and keeps a name from meaning another
  // job after a reconnection.
  MOE_ASSIGN_OR_RETURN(const moe::v1::Job job, client.GetJob(WithoutNoun(options.job)));
  if (job.attempt() == 0 && !options.follow) {
    context.Note(fmt::format("job {} has not been started: there is no log", job.job_id()));
    return ExitCode::kDone;
  }
  if (options.follow) context.world.interrupt.CatchSignals();

  moe::v1::ReadLogsRequest request;
  request.set_job(job.job_id());
  request.set_rank(options.rank);
  request.set_attempt(options.attempt);
  request.set_follow(options.follow);
  const FollowOptions follow{
      .client = &client,
      .clock = &context.world.clock,
      .interrupt = &context.world.interrupt,
      .give_up_after_ms = timeout_ms.value_or(kDefaultGiveUpMs),
      .on_lost =
          [&] {
            context.Note(
                fmt::format("lost the coordinator at {}: trying to reconnect", client.endpoint()));
          },
      .on_back = [&] { context.Note("connected again"); }};
  int shown_attempt = 0;
  const absl::Status status = FollowStream<moe::v1::ReadLogsResponse>(
      follow,
      [&](grpc::ClientContext* grpc_context) {
        return client.jobs().ReadLogs(grpc_context, request);
      },
      [&](const moe::v1::ReadLogsResponse& piece) {
        if (shown_attempt != 0 && piece.attempt() != shown_attempt) {
          context.Note(fmt::format("--- attempt {} ---", piece.attempt()));
        }
        shown_attempt = piece.attempt();
        context.world.out << piece.data() << std::flush;
        request.set_attempt(piece.attempt());
        request.set_offset(piece.offset() + static_cast<int64_t>(piece.data().size()));
      });
  if (status.code() == absl::StatusCode::kCancelled) {
    context.Note(fmt::format("interrupted; the job goes on. Follow again: moectl job logs -f {}",
                             job.job_id()));
    return ExitCode::kInterrupted;
  }
  MOE_RETURN_IF_ERROR(status);
  if (shown_attempt == 0) {
    context.Note(fmt::format("rank {} of job {} has written nothing", options.rank, job.job_id()));
  }
  return ExitCode::kDone;
}

}  // namespace

void AddJobLogs(CLI::App& job, CommandContext& context) {
  auto options = std::make_shared<LogsOptions>();
  CLI::App* command = job.add_subcommand("logs", "Print what a rank of a job wrote");
  command->add_option("JOB", options->job, "Id or name; of a name the newest job")->required();
  command->add_flag("-f,--follow", options->follow, "Go on until the job has ended");
  command->add_option("--rank", options->rank, "The rank; default 0")
      ->check(CLI::Range(0, 1 << 20))
      ->type_name("N");
  command->add_option("--attempt", options->attempt, "The attempt; default the newest")
      ->check(CLI::Range(1, 1 << 30))
      ->type_name("N");
  command->footer(
      "Examples:\n  moectl job logs train -f\n  moectl job logs j17 --attempt 1 --rank 1");
  command->callback([options, &context] {
    context.run = [options, &context] { return Logs(*options, context); };
  });
}

}  // namespace moe::moectl
