// moectl queue list, plan and goodput: who shares the slots, what would happen, what it came to.
#include <memory>
#include <string>

#include "common/status.h"
#include "moectl/commands/commands.h"
#include "moectl/commands/job_file_option.h"
#include "moectl/render/output.h"
#include "moectl/render/queue_table.h"

namespace moe::moectl {
namespace {

// Writes an answer in the form asked for; `table` makes the one for people.
template <typename Response, typename Table>
absl::StatusOr<ExitCode> Show(const absl::StatusOr<Response>& response,
                              const std::string& output_name, const CommandContext& context,
                              Table table) {
  MOE_RETURN_IF_ERROR(response.status());
  std::ostream& out = context.world.out;
  switch (OutputOf(output_name)) {
    case Output::kJson:
      out << ToJson(*response);
      break;
    case Output::kYaml:
      out << ToYaml(*response);
      break;
    default:
      out << table(*response);
  }
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> ListQueues(const std::string& output, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  return Show(client.ListQueues(), output, context,
              [&](const auto& queues) { return RenderQueueTable(queues, context.TableLayout()); });
}

struct PipelinePlanOptions {
  JobFileOption job_file;
  std::string output;
};

absl::StatusOr<ExitCode> PlanPipeline(const PipelinePlanOptions& options,
                                      const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(const moe::v1::SubmitPipelineRequest jobs,
                       ReadJobFile(options.job_file, context));
  moe::v1::PlanPipelineRequest request;
  *request.mutable_jobs() = jobs.jobs();
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  return Show(client.PlanPipeline(request), options.output, context, [&](const auto& plan) {
    return RenderPlanTable(plan, context.world.clock.UnixMillis(), context.TableLayout());
  });
}

absl::StatusOr<ExitCode> Goodput(const std::string& job, const std::string& output,
                                 const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  return Show(client.GetGoodput(WithoutNoun(job)), output, context,
              [&](const auto& goodput) { return RenderGoodput(goodput, context.TableLayout()); });
}

}  // namespace

void AddQueueCommands(CLI::App& root, CommandContext& context) {
  CLI::App* noun = root.add_subcommand("queue", "Who shares the slots, and how");
  noun->require_subcommand(1);
  auto output = std::make_shared<std::string>();
  CLI::App* list = noun->add_subcommand("list", "List the queues and what their jobs use");
  AddOutputOption(*list, output.get(), {"table", "json", "yaml"});
  list->footer(
      "QUOTA is what a queue is entitled to, LIMIT what it never exceeds, LENDS what of its idle\n"
      "quota others may borrow, WANTED the slots that its queued jobs ask for, USAGE slot-hours "
      "of\n"
      "late. The coordinator reads the queues from the file given with --queues.");
  list->callback([output, &context] {
    context.run = [output, &context] { return ListQueues(*output, context); };
  });
}

void AddPlanCommand(CLI::App& root, CommandContext& context) {
  auto options = std::make_shared<PipelinePlanOptions>();
  CLI::App* command =
      root.add_subcommand("plan", "Say what would happen if a job file was submitted now");
  AddJobFileOption(*command, &options->job_file);
  AddOutputOption(*command, &options->output, {"table", "json", "yaml"});
  command->footer(
      "Which jobs would start and where, why the others would wait, whom they would stop, and "
      "what\n"
      "that would cost in slot-time of work done again. Nothing changes. What jobs need of memory\n"
      "and time is told by: moectl job plan\n\n"
      "Example: moectl plan -f examples/smollm2-moe.yaml");
  command->callback([options, &context] {
    context.run = [options, &context] { return PlanPipeline(*options, context); };
  });
}

void AddGoodputCommand(CLI::App& root, CommandContext& context) {
  struct Options {
    std::string job;
    std::string output;
  };
  auto options = std::make_shared<Options>();
  CLI::App* command =
      root.add_subcommand("goodput", "Show where the time of slots went, of a job or of all");
  command->add_option("JOB", options->job, "Job (id or name); none for all jobs and slots");
  AddOutputOption(*command, &options->output, {"table", "json", "yaml"});
  command->footer(
      "Every slot-second of every attempt is booked once: starting or restoring, productive,\n"
      "recomputed (done again after a loss), checkpointing, hung, idle. They add up to the time "
      "that\n"
      "slots were held.\n\n"
      "Example: moectl goodput train");
  command->callback([options, &context] {
    context.run = [options, &context] { return Goodput(options->job, options->output, context); };
  });
}

}  // namespace moe::moectl
