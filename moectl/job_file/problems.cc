#include "moectl/job_file/problems.h"

#include <fmt/format.h>

#include <algorithm>
#include <tuple>

namespace moe::moectl {
namespace {

constexpr size_t kMaxKept = 20;

}  // namespace

void Problems::Add(const YAML::Mark& where, const std::string& message) {
  ++count_;
  if (problems_.size() == kMaxKept) return;
  // yaml-cpp counts from 0, editors from 1.
  const int line = where.line + 1;
  const int column = where.column + 1;
  problems_.push_back({line, column, fmt::format("{}:{}:{}: {}", file_, line, column, message)});
}

void Problems::AddWithoutPlace(const std::string& message) {
  ++count_;
  if (problems_.size() < kMaxKept) problems_.push_back({0, 0, message});
}

std::string Problems::ToString() const {
  std::vector<Problem> sorted = problems_;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Problem& a, const Problem& b) {
    return std::tie(a.line, a.column) < std::tie(b.line, b.column);
  });
  std::string text;
  for (const Problem& problem : sorted) {
    if (!text.empty()) text += '\n';
    text += problem.text;
  }
  if (count_ > static_cast<int>(problems_.size())) {
    text += fmt::format("\n{}: and {} more problems", file_,
                        count_ - static_cast<int>(problems_.size()));
  }
  return text;
}

}  // namespace moe::moectl
