// Collects the first problem of one job, so that the rules of a kind read as a list.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/nearest.h"
#include "common/status.h"

namespace moe::coordinator {

// A name is 1 to kMaxNameLength lower-case letters, digits and dashes.
constexpr size_t kMaxNameLength = 63;
bool IsName(const std::string& name);

// "; did you mean 'train'?", or nothing where no known word is near.
inline std::string Suggestion(const std::string& word, const std::vector<std::string>& known) {
  const std::string nearest = Nearest(word, known);
  return nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest);
}

inline std::string Plain(double value) { return fmt::format("{}", value); }
inline std::string Plain(int64_t value) { return fmt::format("{}", value); }
inline std::string Plain(int32_t value) { return fmt::format("{}", value); }

class Checker {
 public:
  explicit Checker(std::string job) : job_(std::move(job)) {}

  template <typename... Args>
  void Fail(fmt::format_string<Args...> format, Args&&... args) {
    if (!status_.ok()) return;
    status_ =
        InvalidArgument("job '{}': {}", job_, fmt::format(format, std::forward<Args>(args)...));
  }
  void Fail(const absl::Status& status, const std::string& field) {
    if (!status.ok()) Fail("{}: {}", field, Message(status));
  }

  template <typename T>
  void Range(const char* field, T value, T low, T high) {
    // Written so that NaN is out of every range.
    if (!(value >= low && value <= high)) {
      Fail("{}={} is out of range; use {} to {}", field, Plain(value), Plain(low), Plain(high));
    }
  }
  template <typename T>
  void Minimum(const char* field, T value, T low) {
    if (!(value >= low) || !std::isfinite(static_cast<double>(value))) {
      Fail("{}={} is out of range; use {} or more", field, Plain(value), Plain(low));
    }
  }
  void Positive(const char* field, double value) {
    if (!(value > 0) || !std::isfinite(value)) {
      Fail("{}={} is out of range; use a finite number above 0", field, Plain(value));
    }
  }
  void OneOf(const char* field, const std::string& value, const std::vector<std::string>& known) {
    if (std::find(known.begin(), known.end(), value) != known.end()) return;
    Fail("{}='{}' is not known; use {}{}", field, value, fmt::join(known, ", "),
         Suggestion(value, known));
  }
  void Name(const char* field, const std::string& value) {
    if (!IsName(value)) {
      Fail("{}='{}' is not a name; use 1 to {} lower-case letters, digits and dashes", field, value,
           kMaxNameLength);
    }
  }

  const absl::Status& status() const { return status_; }

 private:
  const std::string job_;
  absl::Status status_;
};

}  // namespace moe::coordinator
