// moectl job submit: a job file to jobs.
#include <fmt/format.h>

#include <memory>
#include <string>

#include "common/status.h"
#include "moectl/commands/commands.h"
#include "moectl/commands/job_file_option.h"
#include "moectl/commands/job_watch.h"
#include "moectl/render/job_text.h"
#include "moectl/render/output.h"

namespace moe::moectl {
namespace {

struct SubmitOptions {
  JobFileOption job_file;
  std::string request_id;
  std::string output;
  bool dry_run = false;
  bool wait = false;
};

void PrintSubmitted(const moe::v1::SubmitPipelineRequest& request,
                    const moe::v1::SubmitPipelineResponse& response, const CommandContext& context,
                    Output output) {
  std::ostream& out = context.world.out;
  if (output == Output::kJson) {
    out << ToJson(response);
  } else if (output == Output::kYaml) {
    out << ToYaml(response);
  } else if (request.validate_only()) {
    out << fmt::format("pipeline '{}' is valid: {} {}\n", request.pipeline_name(),
                       response.jobs_size(), response.jobs_size() == 1 ? "job" : "jobs");
  } else if (output == Output::kName) {
    for (const moe::v1::Job& job : response.jobs()) out << "job/" << job.job_id() << "\n";
  } else {
    out << fmt::format("pipeline/{} submitted ({})\n", response.pipeline_id(),
                       request.pipeline_name());
    for (const moe::v1::Job& job : response.jobs()) {
      out << fmt::format("job/{} submitted ({})\n", job.job_id(), job.spec().name());
    }
  }
  out << std::flush;
}

absl::StatusOr<ExitCode> Submit(const SubmitOptions& options, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(moe::v1::SubmitPipelineRequest request,
                       ReadJobFile(options.job_file, context));
  request.set_request_id(options.request_id.empty() ? MakeRequestId() : options.request_id);
  request.set_validate_only(options.dry_run);

  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(const moe::v1::SubmitPipelineResponse response, client.Submit(request));
  PrintSubmitted(request, response, context, OutputOf(options.output));
  if (options.dry_run) return ExitCode::kDone;
  if (!options.wait) {
    if (context.world.terminal().is_terminal) {
      context.Note("follow it: moectl job watch " + response.pipeline_id());
    }
    return ExitCode::kDone;
  }
  return FollowJobs(context, client, {response.jobs().begin(), response.jobs().end()},
                    WatchStyle::kLive);
}

}  // namespace

void AddJobSubmit(CLI::App& job, CommandContext& context) {
  auto options = std::make_shared<SubmitOptions>();
  CLI::App* command = job.add_subcommand("submit", "Submit the jobs of a job file");
  AddJobFileOption(*command, &options->job_file);
  command->add_flag("--dry-run", options->dry_run,
                    "Let the coordinator check everything and change nothing");
  command->add_flag("--wait", options->wait, "Then follow the jobs as job watch does");
  command
      ->add_option("--request-id", options->request_id,
                   "Name of this wish: sent twice, the jobs are made once. Default: a new one")
      ->type_name("ID");
  AddOutputOption(*command, &options->output, {"table", "json", "yaml", "name"});
  command->footer(
      "While the coordinator cannot be reached this tries again for --timeout (default 30s).\n\n"
      "Examples:\n"
      "  moectl job submit -f examples/smollm2-moe.yaml --set corpus=~/text --wait\n"
      "  moectl job submit -f job.yaml --dry-run -o yaml");
  command->callback([options, &context] {
    context.run = [options, &context] { return Submit(*options, context); };
  });
}

}  // namespace moe::moectl
