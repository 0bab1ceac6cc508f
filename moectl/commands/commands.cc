#include "moectl/commands/commands.h"

#include <CLI/Validators.hpp>

namespace moe::moectl {

void AddOutputOption(CLI::App& command, std::string* value, std::vector<std::string> forms) {
  *value = forms.front();
  command.add_option("-o,--output", *value, "Form of the output; default " + forms.front())
      ->check(CLI::IsMember(forms))
      ->type_name("FORM");
}

std::string WithoutNoun(const std::string& name) {
  const size_t slash = name.find('/');
  return slash == std::string::npos ? name : name.substr(slash + 1);
}

std::vector<std::string> WithoutNouns(const std::vector<std::string>& names) {
  std::vector<std::string> plain;
  for (const std::string& name : names) plain.push_back(WithoutNoun(name));
  return plain;
}

}  // namespace moe::moectl
