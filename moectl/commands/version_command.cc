// moectl version: of this program and of the coordinator.
#include <fmt/format.h>

#include <memory>

#include "common/status.h"
#include "common/term/human.h"
#include "moectl/commands/commands.h"
#include "moectl/render/job_text.h"

namespace moe::moectl {
namespace {

absl::StatusOr<ExitCode> Version(bool client_only, const CommandContext& context) {
  context.world.out << "moectl       " << MOE_VERSION << std::endl;
  if (client_only) return ExitCode::kDone;
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(const auto coordinator, client.GetCoordinator());
  const int64_t up_millis = context.world.clock.UnixMillis() - MillisOf(coordinator.start_time());
  context.world.out << fmt::format(
      "coordinator  {} at {}, up {}\n"
      "protocol     {}\n"
      "artefacts    {}\n",
      coordinator.version(), client.endpoint(),
      term::FormatAge(static_cast<double>(up_millis) / 1000), coordinator.protocol_version(),
      coordinator.artefact_root());
  if (!coordinator.metrics_url().empty()) {
    context.world.out << "metrics      " << coordinator.metrics_url() << "\n";
  }
  return ExitCode::kDone;
}

}  // namespace

void AddVersionCommand(CLI::App& root, CommandContext& context) {
  auto client_only = std::make_shared<bool>(false);
  CLI::App* command = root.add_subcommand("version", "Show the versions of moectl and coordinator");
  command->add_flag("--client", *client_only, "Only moectl; asks nobody");
  command->callback([client_only, &context] {
    context.run = [client_only, &context] { return Version(*client_only, context); };
  });
}

}  // namespace moe::moectl
