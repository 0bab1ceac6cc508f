#include "moectl/commands/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/Validators.hpp>
#include <memory>
#include <vector>

#include "moectl/commands/commands.h"

namespace moe::moectl {
namespace {

// What may follow one command.
struct Level {
  std::string path;  // "job submit"; empty for the root
  std::vector<const CLI::App*> commands;
  std::vector<const CLI::Option*> options;
  bool takes_jobs = false;
};

void CollectLevels(const CLI::App& app, const std::string& path, std::vector<Level>* levels) {
  Level level;
  level.path = path;
  for (const CLI::App* subcommand : app.get_subcommands(nullptr)) {
    level.commands.push_back(subcommand);
  }
  for (const CLI::App* owner = &app; owner != nullptr; owner = owner->get_parent()) {
    for (const CLI::Option* option : owner->get_options()) {
      if (option->get_positional()) {
        level.takes_jobs |= option->get_name(true) == "JOB";
      } else if (owner == &app || !option->check_lname("help")) {
        level.options.push_back(option);
      }
    }
  }
  levels->push_back(level);
  for (const CLI::App* subcommand : app.get_subcommands(nullptr)) {
    CollectLevels(*subcommand,
                  path.empty() ? subcommand->get_name() : path + " " + subcommand->get_name(),
                  levels);
  }
}

std::vector<std::string> Words(const Level& level) {
  std::vector<std::string> words;
  for (const CLI::App* command : level.commands) words.push_back(command->get_name());
  for (const CLI::Option* option : level.options) {
    for (const std::string& name : option->get_lnames()) words.push_back("--" + name);
  }
  return words;
}

// The choices of an option, from its type "FORM:{table,json}"; empty where anything goes.
std::vector<std::string> Choices(const CLI::Option& option) {
  const std::string type = option.get_type_name();
  const size_t open = type.find('{');
  const size_t close = type.find('}');
  if (open == std::string::npos || close == std::string::npos) return {};
  return CLI::detail::split(type.substr(open + 1, close - open - 1), ',');
}

// Names of jobs, as the coordinator has them now; nothing where it does not answer at once.
constexpr char kJobNames[] = "moectl job list -o name --timeout 1s 2>/dev/null | sed 's|^job/||'";

// Bash and zsh tell a command's words to a function in the same way; this is its body, which finds
// the command in $words and leaves the answers in $answers.
std::string CaseBody(const std::vector<Level>& levels) {
  std::string paths;
  std::string cases;
  for (const Level& level : levels) {
    if (!level.path.empty()) {
      paths += fmt::format("{}'{}'", paths.empty() ? "" : "|", level.path);
    }
    std::string values;
    for (const CLI::Option* option : level.options) {
      const std::vector<std::string> choices = Choices(*option);
      std::vector<std::string> names;
      for (const std::string& name : option->get_snames()) names.push_back("-" + name);
      for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
      if (!choices.empty()) {
        values += fmt::format("        {}) answers='{}' ;;\n", fmt::join(names, "|"),
                              fmt::join(choices, " "));
      } else if (option->check_lname("file")) {
        values += fmt::format("        {}) answers=FILES ;;\n", fmt::join(names, "|"));
      }
    }
    cases += fmt::format("    '{}')\n      case \"$previous\" in\n{}        *) answers='{}'",
                         level.path, values, fmt::join(Words(level), " "));
    if (level.takes_jobs)
      cases += fmt::format("\n           answers=\"$answers $({})\"", kJobNames);
    cases += " ;;\n      esac ;;\n";
  }
  return fmt::format(
      "  local command='' word answers=''\n"
      "  for word in \"${{words[@]}}\"; do\n"
      "    case \"${{command:+$command }}$word\" in\n"
      "      {}) command=\"${{command:+$command }}$word\" ;;\n"
      "    esac\n"
      "  done\n"
      "  case \"$command\" in\n{}  esac\n",
      paths, cases);
}

std::string BashScript(const std::vector<Level>& levels) {
  return fmt::format(
      "# bash completion for moectl: source <(moectl completion bash)\n"
      "_moectl() {{\n"
      "  local current=\"${{COMP_WORDS[COMP_CWORD]}}\" previous=\"${{COMP_WORDS[COMP_CWORD-1]}}\"\n"
      "  local words=(\"${{COMP_WORDS[@]:1:COMP_CWORD-1}}\")\n"
      "{}"
      "  if [ \"$answers\" = FILES ]; then\n"
      "    mapfile -t COMPREPLY < <(compgen -f -- \"$current\")\n"
      "  else\n"
      "    mapfile -t COMPREPLY < <(compgen -W \"$answers\" -- \"$current\")\n"
      "  fi\n"
      "}}\n"
      "complete -F _moectl moectl\n",
      CaseBody(levels));
}

std::string ZshScript(const std::vector<Level>& levels) {
  return fmt::format(
      "#compdef moectl\n"
      "# zsh completion for moectl: source <(moectl completion zsh)\n"
      "_moectl() {{\n"
      "  local previous=\"${{words[CURRENT-1]}}\"\n"
      "  local -a line=(\"${{words[@]}}\")\n"
      "  local -a words=(\"${{(@)line[2,CURRENT-1]}}\")\n"
      "{}"
      "  if [ \"$answers\" = FILES ]; then\n"
      "    _files\n"
      "  else\n"
      "    compadd -- ${{=answers}}\n"
      "  fi\n"
      "}}\n"
      "compdef _moectl moectl\n",
      CaseBody(levels));
}

std::string FishScript(const std::vector<Level>& levels) {
  std::string script =
      "# fish completion for moectl: moectl completion fish | source\n"
      "function __moectl_command\n"
      "  set -l command\n"
      "  for word in (commandline -opc)[2..-1]\n"
      "    switch (string join -- ' ' $command $word)\n"
      "      case";
  for (const Level& level : levels) {
    if (!level.path.empty()) script += fmt::format(" '{}'", level.path);
  }
  script +=
      "\n        set -a command $word\n"
      "    end\n"
      "  end\n"
      "  test \"$command\" = \"$argv\"\n"
      "end\n"
      "complete -c moectl -f\n";
  for (const Level& level : levels) {
    const std::string when =
        fmt::format("complete -c moectl -n \"__moectl_command {}\"", level.path);
    for (const CLI::App* command : level.commands) {
      script +=
          fmt::format("{} -a {} -d '{}'\n", when, command->get_name(), command->get_description());
    }
    for (const CLI::Option* option : level.options) {
      script += when;
      for (const std::string& name : option->get_snames()) script += " -s " + name;
      for (const std::string& name : option->get_lnames()) script += " -l " + name;
      const std::vector<std::string> choices = Choices(*option);
      if (!choices.empty()) script += fmt::format(" -x -a '{}'", fmt::join(choices, " "));
      if (choices.empty() && option->check_lname("file")) {
        script += " -r -F";
      } else if (choices.empty() && option->get_items_expected_max() > 0) {
        script += " -x";
      }
      script += fmt::format(" -d '{}'\n", option->get_description());
    }
    if (level.takes_jobs) script += fmt::format("{} -a \"({})\"\n", when, kJobNames);
  }
  return script;
}

}  // namespace

std::string CompletionScript(const CLI::App& root, const std::string& shell) {
  std::vector<Level> levels;
  CollectLevels(root, "", &levels);
  if (shell == "zsh") return ZshScript(levels);
  if (shell == "fish") return FishScript(levels);
  return BashScript(levels);
}

void AddCompletionCommand(CLI::App& root, CommandContext& context) {
  auto shell = std::make_shared<std::string>();
  CLI::App* command = root.add_subcommand("completion", "Print a completion script for a shell");
  command->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  command->footer("Examples:\n  source <(moectl completion bash)");
  command->callback([shell, &root, &context] {
    context.run = [shell, &root, &context]() -> absl::StatusOr<ExitCode> {
      context.world.out << CompletionScript(root, *shell);
      return ExitCode::kDone;
    };
  });
}

}  // namespace moe::moectl
