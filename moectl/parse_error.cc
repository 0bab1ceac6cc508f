#include "moectl/parse_error.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <optional>

#include "common/nearest.h"

namespace moe::moectl {
namespace {

// The options of a command and of all above it, which it inherits.
std::vector<const CLI::Option*> OptionsInScope(const CLI::App* app) {
  std::vector<const CLI::Option*> options;
  for (; app != nullptr; app = app->get_parent()) {
    for (const CLI::Option* option : app->get_options()) options.push_back(option);
  }
  return options;
}

const CLI::Option* FindOption(const CLI::App* app, const std::string& flag) {
  for (const CLI::Option* option : OptionsInScope(app)) {
    if (!option->get_positional() && option->check_name(flag)) return option;
  }
  return nullptr;
}

const CLI::App* FindSubcommand(const CLI::App* app, const std::string& name) {
  for (const CLI::App* subcommand : app->get_subcommands(nullptr)) {
    if (subcommand->get_name() == name) return subcommand;
  }
  return nullptr;
}

std::vector<std::string> SubcommandNames(const CLI::App* app) {
  std::vector<std::string> names;
  for (const CLI::App* subcommand : app->get_subcommands(nullptr)) {
    names.push_back(subcommand->get_name());
  }
  return names;
}

std::string CommandPath(const CLI::App* app) {
  std::string path = app->get_name();
  for (app = app->get_parent(); app != nullptr; app = app->get_parent()) {
    path.insert(0, app->get_name() + " ");
  }
  return path;
}

std::string UnknownFlag(const CLI::App* command, const std::string& flag) {
  std::vector<std::string> known;
  for (const CLI::Option* option : OptionsInScope(command)) {
    for (const std::string& name : option->get_lnames()) known.push_back("--" + name);
  }
  const std::string nearest = Nearest(flag, known);
  return fmt::format("unknown flag '{}' of '{}'{}", flag, CommandPath(command),
                     nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest));
}

std::string UnknownCommand(const CLI::App* parent, const std::string& word) {
  const std::vector<std::string> known = SubcommandNames(parent);
  const std::string nearest = Nearest(word, known);
  return fmt::format("unknown command '{}' of '{}'{}", word, CommandPath(parent),
                     nearest.empty() ? fmt::format("; known are: {}", fmt::join(known, ", "))
                                     : fmt::format("; did you mean '{}'?", nearest));
}

// "--set" of "--set=a=b".
std::string FlagName(const std::string& argument) { return argument.substr(0, argument.find('=')); }

bool TakesValue(const CLI::Option& option) { return option.get_items_expected_max() > 0; }

struct Finding {
  // The command up to which the line was understood.
  const CLI::App* command;
  // What is wrong there; empty where every word is known.
  std::string problem;
};

// Walks the line as CLI11 does, which does not say which word it stumbled over.
Finding FindUnknownWord(const CLI::App& root, const std::vector<std::string>& arguments) {
  const CLI::App* command = &root;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    if (argument == "--") break;
    if (argument.starts_with("--") || (argument.size() == 2 && argument[0] == '-')) {
      const CLI::Option* option = FindOption(command, FlagName(argument));
      if (option == nullptr) return {command, UnknownFlag(command, FlagName(argument))};
      if (TakesValue(*option) && argument.find('=') == std::string::npos) ++i;
    } else if (argument.starts_with('-')) {
      continue;  // "-" alone, or short options run together.
    } else if (!command->get_subcommands(nullptr).empty()) {
      const CLI::App* next = FindSubcommand(command, argument);
      if (next == nullptr) return {command, UnknownCommand(command, argument)};
      command = next;
    }
  }
  return {command, ""};
}

}  // namespace

std::string DescribeParseError(const CLI::App& root, const std::vector<std::string>& arguments,
                               const CLI::ParseError& error) {
  const Finding finding = FindUnknownWord(root, arguments);
  std::string problem = finding.problem;
  if (problem.empty() && !finding.command->get_subcommands(nullptr).empty()) {
    problem = fmt::format("'{}' needs a command: {}", CommandPath(finding.command),
                          fmt::join(SubcommandNames(finding.command), ", "));
  }
  if (problem.empty()) problem = error.what();
  return fmt::format("{}\nsee '{} --help'", problem, CommandPath(finding.command));
}

}  // namespace moe::moectl
