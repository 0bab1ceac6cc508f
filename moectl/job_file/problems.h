// Everything that is wrong with a job file, collected, so that one run shows all of it.
#pragma once

#include <yaml-cpp/mark.h>

#include <string>
#include <vector>

namespace moe::moectl {

class Problems {
 public:
  // `file` is how messages name the file.
  explicit Problems(std::string file) : file_(std::move(file)) {}

  // Problems beyond the first 20 are counted and not kept.
  void Add(const YAML::Mark& where, const std::string& message);
  // About the command line, not about a place in the file.
  void AddWithoutPlace(const std::string& message);

  bool empty() const { return count_ == 0; }
  // One problem a line, "job.yaml:12:5: message", in the order of the file, without a last line
  // break.
  std::string ToString() const;

 private:
  struct Problem {
    int line = 0;
    int column = 0;
    std::string text;
  };

  std::string file_;
  std::vector<Problem> problems_;
  int count_ = 0;
};

}  // namespace moe::moectl
