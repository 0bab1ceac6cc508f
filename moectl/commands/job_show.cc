// moectl job list, describe, events, steps: jobs as the coordinator knows them.
#include <fmt/format.h>

#include <memory>
#include <string>
#include <vector>

#include "common/status.h"
#include "moectl/commands/commands.h"
#include "moectl/render/job_page.h"
#include "moectl/render/job_table.h"
#include "moectl/render/job_text.h"
#include "moectl/render/output.h"

namespace moe::moectl {
namespace {

struct ListOptions {
  std::vector<std::string> states;
  std::vector<std::string> labels;
  std::string pipeline;
  std::string user;
  std::string queue;
  std::string array;
  std::string output;
  bool active = false;
};

absl::StatusOr<ExitCode> List(const ListOptions& options, const CommandContext& context) {
  moe::v1::ListJobsRequest request;
  for (const std::string& name : options.states) {
    MOE_ASSIGN_OR_RETURN(const moe::v1::JobState state, ParseState(name));
    request.add_states(state);
  }
  for (int number = 1; options.active && moe::v1::JobState_IsValid(number); ++number) {
    const auto state = static_cast<moe::v1::JobState>(number);
    if (!HasEnded(state)) request.add_states(state);
  }
  request.set_pipeline_id(WithoutNoun(options.pipeline));
  request.set_user(options.user);
  request.set_queue(options.queue);
  request.set_array_job_id(WithoutNoun(options.array));
  for (const std::string& label : options.labels) {
    const size_t equals = label.find('=');
    if (equals == std::string::npos || equals == 0) {
      return InvalidArgument("--label '{}': expected KEY=VALUE, as in --label team=search", label);
    }
    (*request.mutable_labels())[label.substr(0, equals)] = label.substr(equals + 1);
  }
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(const moe::v1::ListJobsResponse response, client.ListJobs(request));

  std::ostream& out = context.world.out;
  switch (OutputOf(options.output)) {
    case Output::kJson:
      out << ToJson(response);
      break;
    case Output::kYaml:
      out << ToYaml(response);
      break;
    case Output::kName:
      for (const moe::v1::Job& job : response.jobs()) out << "job/" << job.job_id() << "\n";
      break;
    case Output::kTable:
    case Output::kWide:
      if (response.jobs().empty()) {
        context.Note("no jobs");
      } else {
        out << RenderJobTable(response, OutputOf(options.output) == Output::kWide,
                              context.world.clock.UnixMillis(), context.TableLayout());
      }
      break;
  }
  return ExitCode::kDone;
}

// Options of the commands that show one job.
struct ShowOptions {
  std::string job;
  std::string output;
};

absl::StatusOr<ExitCode> Describe(const ShowOptions& options, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  JobPage page;
  MOE_ASSIGN_OR_RETURN(page.job, client.GetJob(WithoutNoun(options.job)));
  std::ostream& out = context.world.out;
  switch (OutputOf(options.output)) {
    case Output::kJson:
    case Output::kYaml: {
      moe::v1::GetJobResponse response;
      *response.mutable_job() = page.job;
      out << (options.output == "json" ? ToJson(response) : ToYaml(response));
      return ExitCode::kDone;
    }
    case Output::kName:
      out << "job/" << page.job.job_id() << "\n";
      return ExitCode::kDone;
    case Output::kTable:
    case Output::kWide:
      break;
  }
  MOE_ASSIGN_OR_RETURN(page.events, client.ListEvents(page.job.job_id()));
  for (const std::string& output : page.job.outputs()) {
    auto artefact = client.GetArtefact(output);
    // Checkpoints that are no longer kept are gone from the catalogue; the page shows the name.
    if (artefact.status().code() == absl::StatusCode::kNotFound) continue;
    MOE_RETURN_IF_ERROR(artefact.status());
    page.outputs.push_back(*std::move(artefact));
  }
  out << RenderJobPage(page, context.world.clock.UnixMillis(), context.TableLayout());
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> Events(const ShowOptions& options, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(const auto events, client.ListEvents(WithoutNoun(options.job)));
  std::ostream& out = context.world.out;
  if (options.output == "json") {
    out << ToJson(events);
  } else if (options.output == "yaml") {
    out << ToYaml(events);
  } else {
    out << RenderEventTable(events, context.TableLayout());
  }
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> Steps(const ShowOptions& options, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(const auto steps, client.ListSteps(WithoutNoun(options.job)));
  std::ostream& out = context.world.out;
  if (options.output == "json") {
    out << ToJson(steps);
  } else if (options.output == "csv") {
    out << RenderStepCsv(steps);
  } else if (steps.steps().empty()) {
    context.Note("no training steps");
  } else {
    out << RenderStepTable(steps, context.TableLayout());
  }
  return ExitCode::kDone;
}

using ShowCommand = absl::StatusOr<ExitCode> (*)(const ShowOptions&, const CommandContext&);

CLI::App* AddShowCommand(CLI::App& job, CommandContext& context, const std::string& name,
                         const std::string& description, std::vector<std::string> forms,
                         ShowCommand show) {
  auto options = std::make_shared<ShowOptions>();
  CLI::App* command = job.add_subcommand(name, description);
  command->add_option("JOB", options->job, "Id or name; of a name the newest job")->required();
  AddOutputOption(*command, &options->output, std::move(forms));
  command->callback([options, &context, show] {
    context.run = [options, &context, show] { return show(*options, context); };
  });
  return command;
}

}  // namespace

void AddJobList(CLI::App& job, CommandContext& context) {
  auto options = std::make_shared<ListOptions>();
  CLI::App* command = job.add_subcommand("list", "List jobs, newest first");
  command->add_option("--state", options->states, "Only this state; repeatable, or with commas")
      ->delimiter(',')
      ->allow_extra_args(false)
      ->type_name("STATE");
  command->add_flag("--active", options->active, "Only jobs that have not ended")
      ->excludes("--state");
  command->add_option("--pipeline", options->pipeline, "Only the jobs of this pipeline")
      ->type_name("PIPELINE");
  command->add_option("--label", options->labels, "Only jobs with this label; repeatable")
      ->allow_extra_args(false)
      ->type_name("KEY=VALUE");
  command->add_option("--user", options->user, "Only jobs of this user")->type_name("USER");
  command->add_option("--queue", options->queue, "Only jobs of this queue, or of queues below it")
      ->type_name("QUEUE");
  command->add_option("--array", options->array, "Only the elements of this array")
      ->type_name("JOB");
  AddOutputOption(*command, &options->output, {"table", "wide", "json", "yaml", "name"});
  command->footer(
      "Examples:\n"
      "  moectl job list --state running,queued\n"
      "  moectl job list --queue research --label team=search --user ann\n"
      "  moectl job list --pipeline p4 -o json | jq -r '.jobs[].state'");
  command->callback([options, &context] {
    context.run = [options, &context] { return List(*options, context); };
  });
}

void AddJobDescribe(CLI::App& job, CommandContext& context) {
  AddShowCommand(job, context, "describe", "Show everything about a job",
                 {"table", "wide", "json", "yaml", "name"}, Describe)
      ->footer("Examples:\n  moectl job describe train\n  moectl job describe j17 -o yaml");
}

void AddJobEvents(CLI::App& job, CommandContext& context) {
  AddShowCommand(job, context, "events", "Show the history of a job", {"table", "json", "yaml"},
                 Events);
}

void AddJobSteps(CLI::App& job, CommandContext& context) {
  AddShowCommand(job, context, "steps", "Show the training steps of a job: the loss sequence",
                 {"table", "json", "csv"}, Steps)
      ->footer(
          "csv holds every digit: equal runs give equal files, but for the two columns of time.\n\n"
          "Examples:\n"
          "  moectl job steps train -o csv | cut -d, -f1,2");
}

}  // namespace moe::moectl
