#include "common/json.h"

#include <charconv>
#include <limits>

#include "common/file.h"
#include "common/status.h"

namespace moe {
namespace {

const Json& EmptyObject() {
  static const Json empty = Json::object();
  return empty;
}
const Json& EmptyArray() {
  static const Json empty = Json::array();
  return empty;
}

template <typename T>
bool ParseNumber(const std::string& text, T& value) {
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  return result.ec == std::errc() && result.ptr == text.data() + text.size();
}

}  // namespace

absl::StatusOr<Json> ParseJson(const std::string& text, const std::string& what) {
  try {
    return Json::parse(text);
  } catch (const Json::parse_error& error) {
    return InvalidArgument("{} is not valid JSON: {}", what, error.what());
  }
}

absl::StatusOr<Json> ReadJsonFile(const std::string& path) {
  MOE_ASSIGN_OR_RETURN(const std::string text, ReadFile(path));
  return ParseJson(text, path);
}

JsonReader::JsonReader(const Json& object, std::string path)
    : object_(object), path_(std::move(path)) {
  if (!object.is_object()) status_ = InvalidArgument("{}: expected a JSON object", path_);
}

void JsonReader::Fail(const std::string& key, const std::string& problem) {
  if (status_.ok()) status_ = InvalidArgument("{}: {}: {}", path_, key, problem);
}

bool JsonReader::Has(const std::string& key) const {
  if (!object_.is_object()) return false;
  const auto it = object_.find(key);
  return it != object_.end() && !it->is_null();
}

const Json* JsonReader::Find(const std::string& key) {
  if (Has(key)) return &object_.at(key);
  Fail(key, "missing");
  return nullptr;
}

std::string JsonReader::String(const std::string& key) {
  const Json* value = Find(key);
  if (value == nullptr) return "";
  if (value->is_string()) return value->get<std::string>();
  Fail(key, "expected a string, got " + value->dump());
  return "";
}

int64_t JsonReader::Int(const std::string& key) {
  const Json* value = Find(key);
  if (value == nullptr) return 0;
  const bool too_large =
      value->is_number_unsigned() &&
      value->get<uint64_t>() > static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
  if (value->is_number_integer() && !too_large) return value->get<int64_t>();
  int64_t parsed = 0;
  if (value->is_string() && ParseNumber(value->get<std::string>(), parsed)) return parsed;
  Fail(key, "expected an integer, got " + value->dump());
  return 0;
}

uint64_t JsonReader::Uint(const std::string& key) {
  const Json* value = Find(key);
  if (value == nullptr) return 0;
  if (value->is_number_unsigned()) return value->get<uint64_t>();
  uint64_t parsed = 0;
  if (value->is_string() && ParseNumber(value->get<std::string>(), parsed)) return parsed;
  Fail(key, "expected an integer of at least 0, got " + value->dump());
  return 0;
}

double JsonReader::Double(const std::string& key) {
  const Json* value = Find(key);
  if (value == nullptr) return 0;
  if (value->is_number()) return value->get<double>();
  Fail(key, "expected a number, got " + value->dump());
  return 0;
}

bool JsonReader::Bool(const std::string& key) {
  const Json* value = Find(key);
  if (value == nullptr) return false;
  if (value->is_boolean()) return value->get<bool>();
  Fail(key, "expected true or false, got " + value->dump());
  return false;
}

std::string JsonReader::String(const std::string& key, const std::string& fallback) {
  return Has(key) ? String(key) : fallback;
}
int64_t JsonReader::Int(const std::string& key, int64_t fallback) {
  return Has(key) ? Int(key) : fallback;
}
double JsonReader::Double(const std::string& key, double fallback) {
  return Has(key) ? Double(key) : fallback;
}
bool JsonReader::Bool(const std::string& key, bool fallback) {
  return Has(key) ? Bool(key) : fallback;
}

std::vector<std::string> JsonReader::Strings(const std::string& key) {
  std::vector<std::string> result;
  if (!Has(key)) return result;
  for (const Json& item : Array(key)) {
    if (item.is_string()) {
      result.push_back(item.get<std::string>());
    } else {
      Fail(key, "expected a list of strings, got " + item.dump());
    }
  }
  return result;
}

std::vector<double> JsonReader::Doubles(const std::string& key) {
  std::vector<double> result;
  if (!Has(key)) return result;
  for (const Json& item : Array(key)) {
    if (item.is_number()) {
      result.push_back(item.get<double>());
    } else {
      Fail(key, "expected a list of numbers, got " + item.dump());
    }
  }
  return result;
}

const Json& JsonReader::Object(const std::string& key) {
  const Json* value = Find(key);
  if (value == nullptr) return EmptyObject();
  if (value->is_object()) return *value;
  Fail(key, "expected an object, got " + value->dump());
  return EmptyObject();
}

const Json& JsonReader::Array(const std::string& key) {
  const Json* value = Find(key);
  if (value == nullptr) return EmptyArray();
  if (value->is_array()) return *value;
  Fail(key, "expected a list, got " + value->dump());
  return EmptyArray();
}

}  // namespace moe
