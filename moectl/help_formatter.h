// The look of --help.
#pragma once

#include <CLI/App.hpp>
#include <CLI/Formatter.hpp>
#include <string>

namespace moe::moectl {

// "Usage: moectl job submit [OPTIONS]", sections in sentence case, examples at the end, and a hint
// at the options that every command has.
class HelpFormatter : public CLI::Formatter {
 public:
  HelpFormatter();
  std::string make_usage(const CLI::App* app, std::string name) const override;
  std::string make_footer(const CLI::App* app) const override;
  // The option's names with the word for its value; nothing about types and defaults, which the
  // descriptions hold.
  std::string make_option_opts(const CLI::Option* option) const override;
};

}  // namespace moe::moectl
