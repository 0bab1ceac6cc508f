#include "moectl/job_file/parameters.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <set>

#include "common/nearest.h"

namespace moe::moectl {
namespace {

// "; did you mean 'corpus'?", or the names there are.
std::string Hint(const std::string& name, const std::vector<std::string>& known) {
  if (known.empty()) return "; the file has no parameters";
  const std::string nearest = Nearest(name, known);
  if (!nearest.empty()) return fmt::format("; did you mean '{}'?", nearest);
  return fmt::format("; the parameters are: {}", fmt::join(known, ", "));
}

}  // namespace

std::vector<std::string> Parameters::Names() const {
  std::vector<std::string> names;
  for (const auto& [name, value] : values_) names.push_back(name);
  return names;
}

Parameters Parameters::Read(const YAML::Node& section, const std::vector<std::string>& settings,
                            Problems* problems) {
  Parameters parameters;
  std::map<std::string, YAML::Mark> without_value;
  if (section.IsDefined() && !section.IsNull() && !section.IsMap()) {
    problems->Add(section.Mark(), "parameters: expected a mapping of names to defaults");
  } else if (section.IsDefined() && section.IsMap()) {
    for (const auto& entry : section) {
      const std::string name = entry.first.IsScalar() ? entry.first.Scalar() : "";
      if (name.empty() || name.find_first_of("${}= ") != std::string::npos) {
        problems->Add(entry.first.Mark(),
                      fmt::format("'{}' is not a name for a parameter: use letters, digits, '_' "
                                  "and '-'",
                                  name));
        continue;
      }
      if (parameters.values_.contains(name)) {
        problems->Add(entry.first.Mark(), fmt::format("parameter '{}' is given twice", name));
        continue;
      }
      if (entry.second.IsNull()) {
        without_value.emplace(name, entry.first.Mark());
      } else if (!entry.second.IsScalar()) {
        problems->Add(entry.second.Mark(),
                      fmt::format("the default of parameter '{}' must be one value", name));
      } else if (entry.second.Scalar().find("${") != std::string::npos) {
        problems->Add(
            entry.second.Mark(),
            fmt::format("the default of parameter '{}' cannot refer to a parameter", name));
      }
      // Known even where it is wrong, so that one mistake gives one message.
      parameters.values_[name] = entry.second.IsScalar() ? entry.second.Scalar() : "";
    }
  }

  for (const std::string& setting : settings) {
    const size_t equals = setting.find('=');
    if (equals == std::string::npos || equals == 0) {
      problems->AddWithoutPlace(fmt::format("--set {}: expected name=value", setting));
      continue;
    }
    const std::string name = setting.substr(0, equals);
    const auto found = parameters.values_.find(name);
    if (found == parameters.values_.end()) {
      problems->AddWithoutPlace(fmt::format("--set {}: the file has no parameter '{}'{}", setting,
                                            name, Hint(name, parameters.Names())));
      continue;
    }
    found->second = setting.substr(equals + 1);
    without_value.erase(name);
  }

  for (const auto& [name, mark] : without_value) {
    problems->Add(mark,
                  fmt::format("parameter '{}' has no default: pass --set {}=VALUE", name, name));
  }
  return parameters;
}

std::string Parameters::Substitute(const std::string& text, const YAML::Mark& where,
                                   Problems* problems) const {
  std::string result;
  size_t position = 0;
  while (position < text.size()) {
    const size_t dollar = text.find('$', position);
    if (dollar == std::string::npos || dollar + 1 == text.size()) break;
    result += text.substr(position, dollar - position);
    if (text[dollar + 1] != '{') {
      result += '$';
      position = dollar + (text[dollar + 1] == '$' ? 2 : 1);
      continue;
    }
    const size_t end = text.find('}', dollar);
    if (end == std::string::npos) {
      problems->Add(where, fmt::format("'{}': \"${{\" without \"}}\"; for a plain \"$\" write "
                                       "\"$$\"",
                                       text));
      return result;
    }
    const std::string name = text.substr(dollar + 2, end - dollar - 2);
    const auto found = values_.find(name);
    if (found == values_.end()) {
      problems->Add(
          where, fmt::format("unknown parameter '{}' in '{}'{}", name, text, Hint(name, Names())));
    } else {
      result += found->second;
    }
    position = end + 1;
  }
  return result + text.substr(position);
}

}  // namespace moe::moectl
