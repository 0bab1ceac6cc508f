// Reads the kinds' parts of run.json.
#pragma once

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "common/json.h"
#include "common/status.h"

namespace moe::rank {

// A JsonReader that also checks ranges; the first problem wins.
class SpecReader {
 public:
  SpecReader(const Json& json, std::string path) : reader_(json, std::move(path)) {}

  std::string String(const std::string& key) { return reader_.String(key); }
  bool Bool(const std::string& key) { return reader_.Bool(key); }
  const Json& Object(const std::string& key) { return reader_.Object(key); }
  const Json& Array(const std::string& key) { return reader_.Array(key); }
  const JsonReader& reader() const { return reader_; }

  int64_t IntFrom(const std::string& key, int64_t least) {
    const int64_t value = reader_.Int(key);
    if (value < least) Fail(key, fmt::format("{} must be at least {}", value, least));
    return value;
  }
  uint64_t Seed(const std::string& key) { return static_cast<uint64_t>(reader_.Int(key)); }
  // From `low` to `high`, both included.
  double DoubleIn(const std::string& key, double low, double high) {
    const double value = reader_.Double(key);
    if (!(value >= low && value <= high)) {
      Fail(key, fmt::format("{} must be from {} to {}", value, low, high));
    }
    return value;
  }
  std::string OneOf(const std::string& key, const std::vector<std::string>& choices) {
    std::string value = reader_.String(key);
    if (std::find(choices.begin(), choices.end(), value) == choices.end()) {
      Fail(key, fmt::format("\"{}\" must be one of {}", value, fmt::join(choices, ", ")));
    }
    return value;
  }
  absl::Status status() const { return reader_.status().ok() ? problem_ : reader_.status(); }

 private:
  void Fail(const std::string& key, const std::string& problem) {
    if (status().ok()) problem_ = InvalidArgument("{}: {}: {}", reader_.path(), key, problem);
  }

  JsonReader reader_;
  absl::Status problem_;
};

}  // namespace moe::rank
