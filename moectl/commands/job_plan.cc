// moectl job plan: what the train jobs of a job file need, before anything runs.
#include <fmt/format.h>

#include <memory>
#include <string>

#include "common/status.h"
#include "common/term/human.h"
#include "common/term/table.h"
#include "moectl/commands/commands.h"
#include "moectl/commands/job_file_option.h"
#include "moectl/render/output.h"

namespace moe::moectl {
namespace {

struct PlanOptions {
  JobFileOption job_file;
  std::string machine;
  std::string output;
};

using moe::term::Align;
using moe::term::FormatBytes;
using moe::term::FormatCount;
using moe::term::FormatDuration;

std::string Bytes(int64_t bytes) { return FormatBytes(static_cast<uint64_t>(bytes)); }

std::string RenderEstimate(const moe::v1::TrainEstimate& estimate,
                           const term::TableLayout& layout) {
  std::string text = fmt::format(
      "{}: {} {} on {}\n"
      "  parameters    {}, {} active\n"
      "  arithmetic    {}FLOP per token\n",
      estimate.job(), estimate.ranks(), estimate.ranks() == 1 ? "rank" : "ranks",
      estimate.machine(), FormatCount(static_cast<double>(estimate.total_parameters())),
      FormatCount(static_cast<double>(estimate.active_parameters())),
      FormatCount(estimate.flops_per_token()));
  if (estimate.step_seconds() > 0) {
    text += fmt::format("  time          {} a step, {} tokens/s, {} in all\n",
                        FormatDuration(estimate.step_seconds()),
                        FormatCount(estimate.tokens_per_second()),
                        FormatDuration(estimate.duration_seconds()));
  } else {
    text += "  time          not known: no slot was measured\n";
  }
  if (estimate.sent_bytes_per_step() > 0) {
    text +=
        fmt::format("  sent          {} a step and rank{}\n", Bytes(estimate.sent_bytes_per_step()),
                    estimate.all_to_all_bytes_per_step() == 0
                        ? ""
                        : fmt::format(", {} of it to experts and back",
                                      Bytes(estimate.all_to_all_bytes_per_step())));
  }
  const bool fits = estimate.memory_limit_bytes() == 0 ||
                    estimate.memory_bytes() <= estimate.memory_limit_bytes();
  text += fmt::format("  memory        {} a rank{}\n\n", Bytes(estimate.memory_bytes()),
                      estimate.memory_limit_bytes() == 0
                          ? ""
                          : fmt::format(" of {}{}", Bytes(estimate.memory_limit_bytes()),
                                        fits ? "" : ": does not fit"));
  term::Table parts({{"MEMORY OF A RANK"}, {"SIZE", Align::kRight}});
  for (const moe::v1::MemoryPart& part : estimate.memory()) {
    parts.AddRow({part.name(), Bytes(part.bytes())});
  }
  term::Table choices({{"MICRO-BATCH", Align::kRight}, {"MEMORY", Align::kRight}, {"FITS"}});
  for (const moe::v1::BatchChoice& choice : estimate.choices()) {
    choices.AddRow({std::to_string(choice.micro_batch_samples()), Bytes(choice.memory_bytes()),
                    choice.fits() ? "yes" : "no"});
  }
  return text + parts.Render(layout) + "\n" + choices.Render(layout);
}

absl::StatusOr<ExitCode> Plan(const PlanOptions& options, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(const moe::v1::SubmitPipelineRequest jobs,
                       ReadJobFile(options.job_file, context));
  moe::v1::EstimatePipelineRequest request;
  *request.mutable_jobs() = jobs.jobs();
  request.set_machine(options.machine);
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(const auto response, client.EstimatePipeline(request));
  std::ostream& out = context.world.out;
  const Output output = OutputOf(options.output);
  if (output == Output::kJson) {
    out << ToJson(response);
  } else if (output == Output::kYaml) {
    out << ToYaml(response);
  } else if (response.estimates().empty()) {
    context.Note("there is no train job in " + options.job_file.ShownName());
  } else {
    for (int i = 0; i < response.estimates_size(); ++i) {
      out << (i > 0 ? "\n" : "") << RenderEstimate(response.estimates(i), context.TableLayout());
    }
  }
  return ExitCode::kDone;
}

}  // namespace

void AddJobPlan(CLI::App& job, CommandContext& context) {
  auto options = std::make_shared<PlanOptions>();
  CLI::App* command =
      job.add_subcommand("plan", "Say what the train jobs of a job file need, and run nothing");
  AddJobFileOption(*command, &options->job_file);
  command
      ->add_option("--machine", options->machine,
                   "Plan for a named machine (h100) instead of the largest slot of this cluster")
      ->type_name("NAME");
  AddOutputOption(*command, &options->output, {"table", "json", "yaml"});
  command->footer(
      "Parameters, arithmetic and memory follow from the model's shape; times from what the "
      "worker\n"
      "measured when it started, or for a named machine from published figures.\n\n"
      "Example:\n"
      "  moectl job plan -f examples/smollm2-moe.yaml --set corpus=~/text");
  command->callback([options, &context] {
    context.run = [options, &context] { return Plan(*options, context); };
  });
}

}  // namespace moe::moectl
