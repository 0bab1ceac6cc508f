// The parameters of a job file: `${name}` in its values.
#pragma once

#include <yaml-cpp/yaml.h>

#include <map>
#include <string>
#include <vector>

#include "moectl/job_file/problems.h"

namespace moe::moectl {

class Parameters {
 public:
  // `section` is the file's `parameters:` (may be undefined): names with their defaults, where an
  // empty default means that a value must be given. `settings` are "name=value" from --set and
  // override the defaults; the last of a name wins. Problems: names that the section lacks, values
  // that are not scalars, parameters without a value.
  static Parameters Read(const YAML::Node& section, const std::vector<std::string>& settings,
                         Problems* problems);

  // `text` with every ${name} replaced; "$$" stands for "$". Values are not searched again.
  // `where` is the place of problems: unknown names, "${" without its end.
  std::string Substitute(const std::string& text, const YAML::Mark& where,
                         Problems* problems) const;

 private:
  std::vector<std::string> Names() const;

  std::map<std::string, std::string> values_;
};

}  // namespace moe::moectl
