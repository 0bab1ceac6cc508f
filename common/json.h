// JSON from files and processes we do not control: parsed without exceptions, read strictly.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace moe {

using Json = nlohmann::json;

// INVALID_ARGUMENT with the byte where it went wrong. `what` names the text in messages.
absl::StatusOr<Json> ParseJson(const std::string& text, const std::string& what);
absl::StatusOr<Json> ReadJsonFile(const std::string& path);

// Reads fields of one object and remembers the first problem, so that a loader is a list of reads
// and one check:
//
//   JsonReader reader(json, "manifest.json");
//   manifest.kind = reader.String("kind");
//   manifest.size_bytes = reader.Int("size_bytes");
//   MOE_RETURN_IF_ERROR(reader.status());
//
// Integers are also accepted as decimal strings, which is how protobuf's JSON writes 64-bit ones.
class JsonReader {
 public:
  JsonReader(const Json& object, std::string path);

  bool Has(const std::string& key) const;
  std::string String(const std::string& key);
  int64_t Int(const std::string& key);
  uint64_t Uint(const std::string& key);
  double Double(const std::string& key);
  bool Bool(const std::string& key);
  std::string String(const std::string& key, const std::string& fallback);
  int64_t Int(const std::string& key, int64_t fallback);
  double Double(const std::string& key, double fallback);
  bool Bool(const std::string& key, bool fallback);
  std::vector<std::string> Strings(const std::string& key);  // empty where missing
  std::vector<double> Doubles(const std::string& key);       // empty where missing
  const Json& Object(const std::string& key);
  const Json& Array(const std::string& key);

  // "spec.json: train.model: missing" or OK.
  const absl::Status& status() const { return status_; }
  const std::string& path() const { return path_; }

 private:
  const Json* Find(const std::string& key);
  void Fail(const std::string& key, const std::string& problem);

  const Json& object_;
  std::string path_;
  absl::Status status_;
};

}  // namespace moe
