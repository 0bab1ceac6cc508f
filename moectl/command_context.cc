#include "moectl/command_context.h"

#include "common/status.h"
#include "common/term/human.h"
#include "moectl/config/config.h"

namespace moe::moectl {

absl::StatusOr<std::optional<int64_t>> CommandContext::TimeoutMillis() const {
  if (options.timeout.empty()) return std::nullopt;
  auto millis = term::ParseDurationMillis(options.timeout);
  if (!millis.ok()) return Annotate(millis.status(), "--timeout");
  return *millis;
}

absl::StatusOr<CoordinatorClient> CommandContext::Connect() const {
  MOE_ASSIGN_OR_RETURN(const std::string endpoint, ChooseEndpoint(options, world.environment));
  MOE_ASSIGN_OR_RETURN(const std::optional<int64_t> timeout_ms, TimeoutMillis());
  CoordinatorClient::Options client_options;
  client_options.endpoint = endpoint;
  client_options.call_timeout_ms = timeout_ms;
  client_options.submit_timeout_ms = timeout_ms;
  return CoordinatorClient::Create(std::move(client_options));
}

term::Terminal CommandContext::Terminal() const {
  term::Terminal terminal = world.terminal();
  if (options.no_color) terminal.color = false;
  return terminal;
}

term::TableLayout CommandContext::TableLayout() const {
  const term::Terminal terminal = Terminal();
  return {.width = terminal.columns, .color = terminal.color};
}

}  // namespace moe::moectl
