// moectl worker: the nodes.
#include <memory>
#include <string>

#include "common/status.h"
#include "moectl/commands/commands.h"
#include "moectl/render/cluster_table.h"
#include "moectl/render/output.h"

namespace moe::moectl {
namespace {

absl::StatusOr<ExitCode> List(const std::string& output_name, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(const auto response, client.ListWorkers());
  std::ostream& out = context.world.out;
  const Output output = OutputOf(output_name);
  if (output == Output::kJson) {
    out << ToJson(response);
  } else if (output == Output::kYaml) {
    out << ToYaml(response);
  } else if (output == Output::kName) {
    for (const auto& worker : response.workers()) out << "worker/" << worker.worker_id() << "\n";
  } else if (response.workers().empty()) {
    context.Note("no worker has registered: start moe-worker");
  } else {
    out << RenderWorkerTable(response, output == Output::kWide, context.world.clock.UnixMillis(),
                             context.TableLayout());
  }
  return ExitCode::kDone;
}

}  // namespace

void AddWorkerCommands(CLI::App& root, CommandContext& context) {
  CLI::App* noun = root.add_subcommand("worker", "The daemons that run jobs");
  noun->require_subcommand(1);
  auto output = std::make_shared<std::string>();
  CLI::App* list = noun->add_subcommand("list", "List workers and what they run");
  AddOutputOption(*list, output.get(), {"table", "wide", "json", "yaml", "name"});
  list->callback(
      [output, &context] { context.run = [output, &context] { return List(*output, context); }; });
}

}  // namespace moe::moectl
