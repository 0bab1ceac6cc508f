#include "moectl/config/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <yaml-cpp/yaml.h>

#include <filesystem>
#include <vector>

#include "common/file.h"
#include "common/nearest.h"
#include "common/status.h"

namespace moe::moectl {
namespace {

constexpr char kDefaultEndpoint[] = "127.0.0.1:7070";

absl::Status Problem(const std::string& path, const YAML::Node& node, const std::string& message) {
  return InvalidArgument("{}:{}: {}", path, node.Mark().line + 1, message);
}

absl::StatusOr<Context> ReadContext(const std::string& path, const YAML::Node& node) {
  if (!node.IsMap()) return Problem(path, node, "a context is a mapping with the key endpoint");
  Context context;
  for (const auto& entry : node) {
    if (!entry.first.IsScalar() || entry.first.Scalar() != "endpoint" || !entry.second.IsScalar()) {
      return Problem(path, entry.first, "a context has one key, endpoint, with HOST:PORT");
    }
    context.endpoint = entry.second.Scalar();
  }
  if (context.endpoint.empty()) return Problem(path, node, "the context has no endpoint");
  return context;
}

absl::StatusOr<Config> ReadConfig(const std::string& path, const YAML::Node& root) {
  Config config;
  if (!root.IsDefined() || root.IsNull()) return config;
  if (!root.IsMap()) return Problem(path, root, "expected the keys current-context and contexts");
  for (const auto& entry : root) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
    if (key == "current-context" && entry.second.IsScalar()) {
      config.current_context = entry.second.Scalar();
    } else if (key == "contexts" && entry.second.IsMap()) {
      for (const auto& named : entry.second) {
        MOE_ASSIGN_OR_RETURN(config.contexts[named.first.Scalar()],
                             ReadContext(path, named.second));
      }
    } else {
      return Problem(path, entry.first, "expected the keys current-context and contexts");
    }
  }
  return config;
}

}  // namespace

absl::StatusOr<std::string> ConfigPath(const Environment& environment) {
  const std::string xdg = environment("XDG_CONFIG_HOME");
  // The XDG specification: a relative path is to be ignored.
  if (xdg.starts_with('/')) return JoinPath(xdg, "moectl/config.yaml");
  const std::string home = environment("HOME");
  if (home.empty()) {
    return FailedPrecondition(
        "neither XDG_CONFIG_HOME nor HOME is set: where is the configuration?");
  }
  return JoinPath(home, ".config/moectl/config.yaml");
}

absl::StatusOr<Config> LoadConfig(const std::string& path) {
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (text.status().code() == absl::StatusCode::kNotFound) return Config();
  if (!text.ok()) return FailedPrecondition("{}", Message(text.status()));
  try {
    return ReadConfig(path, YAML::Load(*text));
  } catch (const YAML::Exception& error) {
    return InvalidArgument("{}:{}: {}", path, error.mark.line + 1, error.msg);
  }
}

std::string FormatConfig(const Config& config) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  if (!config.current_context.empty()) {
    out << YAML::Key << "current-context" << YAML::Value << config.current_context;
  }
  out << YAML::Key << "contexts" << YAML::Value << YAML::BeginMap;
  for (const auto& [name, context] : config.contexts) {
    out << YAML::Key << name << YAML::Value << YAML::BeginMap << YAML::Key << "endpoint"
        << YAML::Value << context.endpoint << YAML::EndMap;
  }
  out << YAML::EndMap << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

absl::Status SaveConfig(const std::string& path, const Config& config) {
  absl::Status status = MakeDirectories(std::filesystem::path(path).parent_path().string());
  if (status.ok()) status = WriteFileAtomically(path, FormatConfig(config));
  // A local file without permission is no question of authentication.
  if (!status.ok()) return FailedPrecondition("{}", Message(status));
  return absl::OkStatus();
}

absl::StatusOr<std::string> ContextEndpoint(const Config& config, const std::string& name) {
  const auto found = config.contexts.find(name);
  if (found != config.contexts.end()) return found->second.endpoint;
  std::vector<std::string> names;
  for (const auto& [context_name, context] : config.contexts) names.push_back(context_name);
  return InvalidArgument(
      "no context '{}'; {}. Make it with moectl config set-context {} --endpoint HOST:PORT", name,
      names.empty() ? std::string("there are none")
                    : fmt::format("the contexts are: {}", fmt::join(names, ", ")),
      name);
}

absl::StatusOr<std::string> ChooseEndpoint(const GlobalOptions& options,
                                           const Environment& environment) {
  if (!options.endpoint.empty()) return options.endpoint;
  std::string context = options.context;
  if (context.empty()) {
    const std::string endpoint = environment("MOECTL_ENDPOINT");
    if (!endpoint.empty()) return endpoint;
    context = environment("MOECTL_CONTEXT");
  }
  const absl::StatusOr<std::string> path = ConfigPath(environment);
  if (!path.ok() && context.empty()) return std::string(kDefaultEndpoint);
  if (!path.ok()) return path.status();
  MOE_ASSIGN_OR_RETURN(const Config config, LoadConfig(*path));
  if (context.empty()) context = config.current_context;
  if (context.empty()) return std::string(kDefaultEndpoint);
  return ContextEndpoint(config, context);
}

}  // namespace moe::moectl
