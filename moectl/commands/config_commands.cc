// moectl config: which coordinators there are.
#include <memory>
#include <string>

#include "common/status.h"
#include "moectl/commands/commands.h"
#include "moectl/config/config.h"

namespace moe::moectl {
namespace {

absl::StatusOr<ExitCode> View(const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(const std::string path, ConfigPath(context.world.environment));
  MOE_ASSIGN_OR_RETURN(const Config config, LoadConfig(path));
  MOE_ASSIGN_OR_RETURN(const std::string endpoint,
                       ChooseEndpoint(context.options, context.world.environment));
  context.world.out << "# " << path << "; the endpoint in use is " << endpoint << "\n"
                    << FormatConfig(config);
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> SetContext(const std::string& name, const CommandContext& context) {
  // Refuses an endpoint now that every later command would refuse.
  MOE_RETURN_IF_ERROR(
      CoordinatorClient::Create({.endpoint = context.options.endpoint, .tls_dir = context.TlsDir()})
          .status());
  MOE_ASSIGN_OR_RETURN(const std::string path, ConfigPath(context.world.environment));
  MOE_ASSIGN_OR_RETURN(Config config, LoadConfig(path));
  config.contexts[name].endpoint = context.options.endpoint;
  // The only context is the one that is meant.
  if (config.contexts.size() == 1) config.current_context = name;
  MOE_RETURN_IF_ERROR(SaveConfig(path, config));
  context.world.out << "context/" << name << " set\n";
  return ExitCode::kDone;
}

absl::StatusOr<ExitCode> UseContext(const std::string& name, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(const std::string path, ConfigPath(context.world.environment));
  MOE_ASSIGN_OR_RETURN(Config config, LoadConfig(path));
  MOE_RETURN_IF_ERROR(ContextEndpoint(config, name).status());
  config.current_context = name;
  MOE_RETURN_IF_ERROR(SaveConfig(path, config));
  context.world.out << "context/" << name << " in use\n";
  return ExitCode::kDone;
}

}  // namespace

void AddConfigCommands(CLI::App& root, CommandContext& context) {
  CLI::App* noun = root.add_subcommand("config", "The coordinators this user works with");
  noun->require_subcommand(1);
  noun->footer(
      "The endpoint is the first of: --endpoint, --context, MOECTL_ENDPOINT, MOECTL_CONTEXT, the\n"
      "current context of the configuration, 127.0.0.1:7070.");

  CLI::App* view = noun->add_subcommand("view", "Show the configuration and the endpoint in use");
  view->callback([&context] { context.run = [&context] { return View(context); }; });

  auto set_name = std::make_shared<std::string>();
  CLI::App* set = noun->add_subcommand("set-context", "Make or change a context");
  set->add_option("NAME", *set_name, "Its name")->required();
  set->footer("Examples:\n  moectl config set-context local --endpoint 127.0.0.1:7070");
  set->callback([set_name, &context] {
    context.run = [set_name, &context]() -> absl::StatusOr<ExitCode> {
      if (context.options.endpoint.empty()) {
        return InvalidArgument("set-context {} needs --endpoint HOST:PORT", *set_name);
      }
      return SetContext(*set_name, context);
    };
  });

  auto use_name = std::make_shared<std::string>();
  CLI::App* use = noun->add_subcommand("use-context", "Choose the context for later commands");
  use->add_option("NAME", *use_name, "Its name")->required();
  use->callback([use_name, &context] {
    context.run = [use_name, &context] { return UseContext(*use_name, context); };
  });
}

}  // namespace moe::moectl
