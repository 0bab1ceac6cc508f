// The user's configuration: named contexts, each with the endpoint of a coordinator.
//
//   current-context: local
//   contexts:
//     local:
//       endpoint: 127.0.0.1:7070
#pragma once

#include <functional>
#include <map>
#include <string>

#include "absl/status/statusor.h"
#include "moectl/global_options.h"

namespace moe::moectl {

struct Context {
  std::string endpoint;
};

struct Config {
  // Empty for none.
  std::string current_context;
  std::map<std::string, Context> contexts;
};

using Environment = std::function<std::string(const std::string&)>;

// $XDG_CONFIG_HOME/moectl/config.yaml, else ~/.config/moectl/config.yaml. FAILED_PRECONDITION where
// neither XDG_CONFIG_HOME nor HOME is set.
absl::StatusOr<std::string> ConfigPath(const Environment& environment);

// An empty configuration where there is no file. INVALID_ARGUMENT with the line for a bad one.
absl::StatusOr<Config> LoadConfig(const std::string& path);
std::string FormatConfig(const Config& config);
absl::Status SaveConfig(const std::string& path, const Config& config);

// INVALID_ARGUMENT for a context that does not exist, with those that do.
absl::StatusOr<std::string> ContextEndpoint(const Config& config, const std::string& name);

// The endpoint, from the first of: --endpoint, --context, MOECTL_ENDPOINT, MOECTL_CONTEXT, the
// configuration's current context, 127.0.0.1:7070. Errors as of ContextEndpoint.
absl::StatusOr<std::string> ChooseEndpoint(const GlobalOptions& options,
                                           const Environment& environment);

}  // namespace moe::moectl
