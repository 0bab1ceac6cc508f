// moectl sampler: the domain weights of train jobs with a dynamic mixture.
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>

#include "common/status.h"
#include "moectl/commands/commands.h"
#include "moectl/render/output.h"
#include "moectl/render/sampler_plot.h"
#include "moectl/render/sampler_table.h"

namespace moe::moectl {
namespace {

struct Options {
  std::string job;
  std::string output = "table";
  std::string file;                  // plot, export
  std::vector<std::string> weights;  // pin: DOMAIN=WEIGHT
  int64_t version = 0;               // rollback
  int64_t from = -1;                 // diff; -1: the one before the newest
  int64_t to = -1;                   // diff; -1: the newest
};

using Run = absl::StatusOr<ExitCode> (*)(const Options&, CoordinatorClient&, const CommandContext&);

// JSON or YAML of `message` where that was asked for, else `table`.
void Print(const CommandContext& context, const std::string& output,
           const google::protobuf::Message& message, const std::string& table) {
  const Output form = OutputOf(output);
  context.world.out << (form == Output::kJson   ? ToJson(message)
                        : form == Output::kYaml ? ToYaml(message)
                                                : table);
}

absl::StatusOr<moe::v1::ListDecisionsResponse> JournalOf(CoordinatorClient& client,
                                                         const std::string& job) {
  MOE_ASSIGN_OR_RETURN(auto journal, client.ListDecisions(job));
  if (journal.decisions().empty()) {
    return FailedPrecondition("job {} has no decision yet; see moectl sampler show {}",
                              journal.job_id(), job);
  }
  return journal;
}

absl::Status WriteTo(const std::string& file, const std::string& text,
                     const CommandContext& context) {
  if (file.empty() || file == "-") {
    context.world.out << text;
    return absl::OkStatus();
  }
  std::ofstream out(file, std::ios::binary);
  out << text;
  out.close();
  if (!out)
    return FailedPrecondition("cannot write {}; name a file in a folder that is there", file);
  context.Note("wrote " + file);
  return absl::OkStatus();
}

absl::StatusOr<ExitCode> Show(const Options& options, CoordinatorClient& client,
                              const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(const auto sampler, client.GetSampler(options.job));
  Print(context, options.output, sampler, RenderSampler(sampler, context.TableLayout()));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> History(const Options& options, CoordinatorClient& client,
                                 const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(const auto journal, JournalOf(client, options.job));
  Print(context, options.output, journal, RenderDecisions(journal, context.TableLayout()));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> Diff(const Options& options, CoordinatorClient& client,
                              const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(const auto journal, JournalOf(client, options.job));
  const int64_t to = options.to < 0 ? journal.decisions_size() : options.to;
  MOE_ASSIGN_OR_RETURN(
      const std::string table,
      RenderDiff(journal, options.from < 0 ? to - 1 : options.from, to, context.TableLayout()));
  context.world.out << table;
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> Pin(const Options& options, CoordinatorClient& client,
                             const CommandContext& context) {
  moe::v1::PinWeightsRequest request;
  request.set_job(options.job);
  for (const std::string& text : options.weights) {
    const size_t equals = text.find('=');
    char* end = nullptr;
    const double weight =
        equals == std::string::npos ? 0 : std::strtod(text.c_str() + equals + 1, &end);
    if (equals == std::string::npos || end == text.c_str() + equals + 1 || *end != '\0') {
      return InvalidArgument("'{}' is not DOMAIN=WEIGHT, such as c4=0.15", text);
    }
    (*request.mutable_weights())[text.substr(0, equals)] = weight;
  }
  MOE_ASSIGN_OR_RETURN(const auto response, client.PinWeights(request));
  Print(context, options.output, response, "pinned from the next decision on\n");
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> Unpin(const Options& options, CoordinatorClient& client,
                               const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(const auto response, client.UnpinWeights(options.job));
  Print(context, options.output, response, "the rule decides again\n");
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> RollBack(const Options& options, CoordinatorClient& client,
                                  const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(const auto response, client.RollBackWeights(options.job, options.version));
  Print(context, options.output, response,
        fmt::format("the next decision goes back to version {}\n", options.version));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> Replay(const Options& options, CoordinatorClient& client,
                                const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(const auto response, client.ReplayDecisions(options.job));
  std::string text = fmt::format("{} decisions computed again, {} differ\n", response.decisions(),
                                 response.mismatches_size());
  for (const std::string& mismatch : response.mismatches()) text += mismatch + "\n";
  Print(context, options.output, response, text);
  return response.mismatches().empty() ? ExitCode::kDone : ExitCode::kFailed;
}

absl::StatusOr<ExitCode> Export(const Options& options, CoordinatorClient& client,
                                const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(const auto journal, JournalOf(client, options.job));
  MOE_RETURN_IF_ERROR(WriteTo(
      options.file, options.output == "json" ? ToJson(journal) : DecisionsCsv(journal), context));
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> Plot(const Options& options, CoordinatorClient& client,
                              const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(const auto journal, JournalOf(client, options.job));
  MOE_RETURN_IF_ERROR(WriteTo(options.file, PlotDecisions(journal), context));
  return ExitCode::kDone;
}

// A command that takes a job. The options live as long as the command.
std::pair<CLI::App*, std::shared_ptr<Options>> Add(CLI::App& noun, CommandContext& context,
                                                   const char* name, const char* what, Run run) {
  auto options = std::make_shared<Options>();
  CLI::App* command = noun.add_subcommand(name, what);
  command->add_option("JOB", options->job, "Id or name of a train job")->required();
  command->callback([options, &context, run] {
    context.run = [options, &context, run]() -> absl::StatusOr<ExitCode> {
      MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
      options->job = WithoutNoun(options->job);
      return run(*options, client, context);
    };
  });
  return {command, options};
}

}  // namespace

void AddSamplerCommands(CLI::App& root, CommandContext& context) {
  CLI::App* noun = root.add_subcommand("sampler", "Domain weights that follow the losses");
  noun->require_subcommand(1);
  const auto with_output = [](const std::pair<CLI::App*, std::shared_ptr<Options>>& added) {
    AddOutputOption(*added.first, &added.second->output, {"table", "json", "yaml"});
    return added;
  };
  with_output(Add(*noun, context, "show", "Show the newest weights and what comes next", Show));
  with_output(Add(*noun, context, "history", "List the journal of decisions", History));

  const auto [diff, diff_options] =
      Add(*noun, context, "diff", "Compare the weights of two versions", Diff);
  diff->add_option("--from", diff_options->from, "Version; default the one before --to")
      ->check(CLI::NonNegativeNumber)
      ->type_name("VERSION");
  diff->add_option("--to", diff_options->to, "Version; default the newest")
      ->check(CLI::NonNegativeNumber)
      ->type_name("VERSION");

  const auto [pin, pin_options] =
      with_output(Add(*noun, context, "pin", "Fix the weights from the next decision on", Pin));
  pin->add_option("WEIGHT", pin_options->weights,
                  "Every domain with its weight; default: the newest weights")
      ->type_name("DOMAIN=WEIGHT");
  with_output(Add(*noun, context, "unpin", "Let the rule decide again", Unpin));
  const auto [rollback, rollback_options] = with_output(Add(
      *noun, context, "rollback", "Go back to earlier weights with the next decision", RollBack));
  rollback
      ->add_option("--to", rollback_options->version,
                   "Version of the journal; 0 for the weights of the job file")
      ->required()
      ->type_name("VERSION");
  with_output(Add(*noun, context, "replay",
                  "Compute every decision again and compare all bits; exit 1 where one differs",
                  Replay));

  const auto [export_command, export_options] =
      Add(*noun, context, "export", "Write the journal with all digits", Export);
  AddOutputOption(*export_command, &export_options->output, {"csv", "json"});
  export_command->add_option("--file", export_options->file, "Where to; default standard output")
      ->type_name("FILE");
  const auto [plot, plot_options] =
      Add(*noun, context, "plot", "Draw weights and losses over tokens, as SVG", Plot);
  plot->add_option("--file", plot_options->file, "Where to; default standard output")
      ->type_name("FILE");
}

}  // namespace moe::moectl
