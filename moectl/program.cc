#include "moectl/program.h"

#include <CLI/App.hpp>
#include <CLI/Config.hpp>
#include <CLI/Formatter.hpp>
#include <algorithm>
#include <string>
#include <vector>

#include "common/status.h"
#include "moectl/commands/commands.h"
#include "moectl/help_formatter.h"
#include "moectl/parse_error.h"

namespace moe::moectl {
namespace {

void AddGlobalOptions(CLI::App& root, GlobalOptions* options) {
  root.add_option("--endpoint", options->endpoint,
                  "Where the coordinator is; default 127.0.0.1:7070")
      ->type_name("HOST:PORT");
  root.add_option("--context", options->context, "A context of the configuration")
      ->type_name("NAME");
  root.add_option("--tls-dir", options->tls_dir,
                  "Folder with ca.pem, cert.pem and key.pem of this client; or MOECTL_TLS_DIR")
      ->type_name("DIR");
  root.add_option("--token-file", options->token_file,
                  "File with the token, used with TLS; or MOECTL_TOKEN_FILE, MOECTL_TOKEN")
      ->type_name("FILE");
  root.add_option(
          "--timeout", options->timeout,
          "How long a call may take (10s), submit tries again (30s), a stream reconnects (60s)")
      ->type_name("DURATION");
  root.add_flag("--no-color", options->no_color, "No colours; so does NO_COLOR");
  root.set_version_flag("--version", MOE_VERSION, "Show the version of moectl and exit");
}

void NameGroups(CLI::App& app) {
  for (CLI::App* command : app.get_subcommands(nullptr)) {
    command->group("Commands");
    NameGroups(*command);
  }
}

void BuildCommandTree(CLI::App& root, CommandContext& context) {
  root.name("moectl");
  root.description("Submit and follow jobs that make mixtures of experts from LLaMA models.");
  root.formatter(std::make_shared<HelpFormatter>());
  root.set_help_flag("-h,--help", "Show this help and exit");
  // Options of the root are understood after any command.
  root.fallthrough();
  root.require_subcommand(1);
  AddGlobalOptions(root, &context.options);

  CLI::App* job = root.add_subcommand("job", "Submit, show, follow and end jobs");
  job->require_subcommand(1);
  AddJobSubmit(*job, context);
  AddJobPlan(*job, context);
  AddJobList(*job, context);
  AddJobDescribe(*job, context);
  AddJobWatch(*job, context);
  AddJobWait(*job, context);
  AddJobLogs(*job, context);
  AddJobEvents(*job, context);
  AddJobSteps(*job, context);
  AddJobContinue(*job, context);
  AddJobCancel(*job, context);
  AddJobHold(*job, context);
  AddArtefactCommands(root, context);
  AddWorkerCommands(root, context);
  AddQueueCommands(root, context);
  AddPlanCommand(root, context);
  AddGoodputCommand(root, context);
  AddSamplerCommands(root, context);
  AddConfigCommands(root, context);
  AddTokenCommands(root, context);
  AddAuditCommands(root, context);
  AddCertificateCommands(root, context);
  AddVersionCommand(root, context);
  AddCompletionCommand(root, context);
  NameGroups(root);
  root.footer(
      "Exit codes: 0 done, 1 failed, 2 wrong command line or job file, 3 not found,\n"
      "4 authentication, 5 a watched job failed or was cancelled, 6 coordinator unreachable,\n"
      "130 interrupted (jobs go on).\n\n"
      "Examples:\n"
      "  moectl job submit -f examples/smollm2-moe.yaml --wait\n"
      "  moectl job list\n"
      "  moectl job logs train -f");
}

}  // namespace

ExitCode RunMoectl(const std::vector<std::string>& arguments, World& world) {
  CLI::App root;
  CommandContext context{.world = world};
  BuildCommandTree(root, context);
  try {
    // CLI11 takes a vector from its end.
    root.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
  } catch (const CLI::Success& wish) {  // --help, --version
    root.exit(wish, world.out, world.err);
    return ExitCode::kDone;
  } catch (const CLI::ParseError& error) {
    if (arguments.empty()) {
      world.err << root.help() << std::flush;
    } else {
      context.Note("moectl: " + DescribeParseError(root, arguments, error));
    }
    return ExitCode::kUsage;
  }

  const absl::StatusOr<ExitCode> result = context.run();
  world.out << std::flush;
  if (result.ok()) return *result;
  context.Note("moectl: " + Message(result.status()));
  return ExitCodeOf(result.status());
}

}  // namespace moe::moectl
