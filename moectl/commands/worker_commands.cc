// moectl worker: the nodes.
#include <fmt/format.h>

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

void Print(const CommandContext& context, const moe::v1::Worker& worker) {
  int busy = 0;
  for (const moe::v1::Slot& slot : worker.slots()) busy += slot.attempt().empty() ? 0 : 1;
  context.world.out << fmt::format("worker/{} {}\n", worker.worker_id(),
                                   !worker.has_drain() ? "undrained"
                                   : busy > 0 ? fmt::format("draining, {} slots still held", busy)
                                              : "drained");
}

absl::StatusOr<ExitCode> Drain(const moe::v1::DrainWorkerRequest& request,
                               const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(const moe::v1::Worker worker, client.DrainWorker(request));
  Print(context, worker);
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> Undrain(const std::string& worker_id, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(const moe::v1::Worker worker, client.UndrainWorker(worker_id));
  Print(context, worker);
  return ExitCode::kDone;
}

void AddDrain(CLI::App& noun, CommandContext& context) {
  struct Options {
    std::string worker;
    std::string reason;
    bool stop_jobs = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* drain = noun.add_subcommand("drain", "Give a worker no more work");
  drain->add_option("WORKER", options->worker, "The worker")->required();
  drain->add_option("--reason", options->reason, "Why, for whoever looks at it next")
      ->required()
      ->type_name("TEXT");
  drain->add_flag("--stop-jobs", options->stop_jobs,
                  "Preempt what runs there: training writes a checkpoint and goes on elsewhere");
  drain->footer(
      "What runs there goes on until it ends, unless --stop-jobs is given. The worker stays "
      "drained\n"
      "over restarts of everything, until: moectl worker undrain WORKER\n\n"
      "Example: moectl worker drain node3 --reason 'ECC errors on GPU 2' --stop-jobs");
  drain->callback([options, &context] {
    context.run = [options, &context] {
      moe::v1::DrainWorkerRequest request;
      request.set_worker_id(WithoutNoun(options->worker));
      request.set_reason(options->reason);
      request.set_stop_jobs(options->stop_jobs);
      return Drain(request, context);
    };
  });

  auto worker = std::make_shared<std::string>();
  CLI::App* undrain = noun.add_subcommand("undrain", "Give a drained worker work again");
  undrain->add_option("WORKER", *worker, "The worker")->required();
  undrain->footer("Example: moectl worker undrain node3");
  undrain->callback([worker, &context] {
    context.run = [worker, &context] { return Undrain(WithoutNoun(*worker), context); };
  });
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
  AddDrain(*noun, context);
}

}  // namespace moe::moectl
