#include "moectl/help_formatter.h"

#include <algorithm>

namespace moe::moectl {

HelpFormatter::HelpFormatter() {
  column_width(30);
  label("Positionals", "Arguments");
}

std::string HelpFormatter::make_usage(const CLI::App* app, std::string) const {
  std::string path = app->get_name();
  for (const CLI::App* parent = app->get_parent(); parent; parent = parent->get_parent()) {
    path.insert(0, parent->get_name() + " ");
  }
  std::string usage = "Usage: " + path;
  if (!app->get_subcommands(nullptr).empty()) usage += " COMMAND";
  for (const CLI::Option* option : app->get_options()) {
    if (!option->get_positional()) continue;
    std::string word = option->get_name(true);
    if (option->get_items_expected_max() > 1) word += "...";
    usage += option->get_required() ? " " + word : " [" + word + "]";
  }
  return usage + " [OPTIONS]\n";
}

std::string HelpFormatter::make_footer(const CLI::App* app) const {
  std::string footer;
  if (!app->get_footer().empty()) footer = app->get_footer() + "\n";
  if (app->get_parent() != nullptr) {
    footer += std::string(app->get_footer().empty() ? "" : "\n") +
              "Every command has --endpoint, --context, --timeout and --no-color: see 'moectl "
              "--help'.\n";
  }
  return footer;
}

std::string HelpFormatter::make_option_opts(const CLI::Option* option) const {
  if (option->get_positional()) return option->get_required() ? "" : " (optional)";
  std::string value = option->get_type_name();
  if (value.empty() || option->get_items_expected_max() == 0) return "";
  // A closed set is told as "FORM:{table,json}"; shown as "table|json".
  if (const size_t open = value.find('{'); open != std::string::npos) {
    value = value.substr(open + 1, value.find('}') - open - 1);
    std::replace(value.begin(), value.end(), ',', '|');
  }
  return " " + value;
}

}  // namespace moe::moectl
