#include "moectl/command_context.h"

#include "common/file.h"
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

std::string CommandContext::TlsDir() const {
  return options.tls_dir.empty() ? world.environment("MOECTL_TLS_DIR") : options.tls_dir;
}

// Never from the command line, which every user of the machine can see.
absl::StatusOr<std::string> CommandContext::Token() const {
  const std::string path =
      options.token_file.empty() ? world.environment("MOECTL_TOKEN_FILE") : options.token_file;
  if (path.empty()) return world.environment("MOECTL_TOKEN");
  absl::StatusOr<std::string> token = ReadFile(path);
  // A local file without permission is no question of authentication.
  if (!token.ok()) return FailedPrecondition("--token-file: {}", Message(token.status()));
  const size_t end = token->find_last_not_of(" \n\r\t");
  token->resize(end == std::string::npos ? 0 : end + 1);
  return token;
}

absl::StatusOr<CoordinatorClient> CommandContext::Connect() const {
  MOE_ASSIGN_OR_RETURN(const std::string endpoint, ChooseEndpoint(options, world.environment));
  MOE_ASSIGN_OR_RETURN(const std::optional<int64_t> timeout_ms, TimeoutMillis());
  CoordinatorClient::Options client_options;
  client_options.tls_dir = TlsDir();
  MOE_ASSIGN_OR_RETURN(client_options.token, Token());
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
