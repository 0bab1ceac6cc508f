#include "sampler/json_line.h"

#include <simdjson.h>

#include <string_view>

#include "common/json.h"

namespace moe::sampler {
namespace {

namespace dom = simdjson::dom;

// A string member of `object`; nullopt where there is none.
std::optional<std::string_view> StringIn(const dom::object& object, std::string_view key) {
  std::string_view value;
  if (object.at_key(key).get(value) != simdjson::SUCCESS) return std::nullopt;
  return value;
}

JsonLine Extract(const dom::element& element, bool with_set) {
  JsonLine line;
  dom::object object;
  if (element.get(object) != simdjson::SUCCESS) return line;
  line.is_object = true;
  for (const char* key : {"text", "content"}) {
    if (const auto text = StringIn(object, key)) {
      line.text.emplace(*text);
      break;
    }
  }
  if (!with_set) return line;
  std::optional<std::string_view> set;
  dom::element meta_set;
  // A "redpajama_set_name" that is no string is an answer too: that the line does not say.
  if (object.at_pointer("/meta/redpajama_set_name").get(meta_set) == simdjson::SUCCESS) {
    std::string_view name;
    if (meta_set.get(name) == simdjson::SUCCESS) set = name;
  } else {
    set = StringIn(object, "red_pajama_subset");
  }
  if (set.has_value()) line.set.assign(*set);
  return line;
}

JsonLine Extract(const Json& object, bool with_set) {
  JsonLine line;
  if (!object.is_object()) return line;
  line.is_object = true;
  for (const char* key : {"text", "content"}) {
    const auto it = object.find(key);
    if (it != object.end() && it->is_string()) {
      line.text = it->get<std::string>();
      break;
    }
  }
  if (!with_set) return line;
  const Json* set = nullptr;
  if (const auto meta = object.find("meta"); meta != object.end() && meta->is_object()) {
    if (const auto it = meta->find("redpajama_set_name"); it != meta->end()) set = &*it;
  }
  if (set == nullptr) {
    if (const auto it = object.find("red_pajama_subset"); it != object.end()) set = &*it;
  }
  if (set != nullptr && set->is_string()) line.set = set->get<std::string>();
  return line;
}

}  // namespace

class JsonLineParser::Impl {
 public:
  dom::parser parser;
};

JsonLineParser::JsonLineParser() : impl_(std::make_unique<Impl>()) {}
JsonLineParser::~JsonLineParser() = default;
JsonLineParser::JsonLineParser(JsonLineParser&&) noexcept = default;
JsonLineParser& JsonLineParser::operator=(JsonLineParser&&) noexcept = default;

JsonLine JsonLineParser::Parse(std::string& line, bool with_set) {
  // simdjson reads, and ignores, that many bytes behind the text.
  if (line.capacity() < line.size() + simdjson::SIMDJSON_PADDING) {
    line.reserve(2 * line.size() + simdjson::SIMDJSON_PADDING);
  }
  dom::element element;
  if (impl_->parser.parse(line.data(), line.size(), /*realloc_if_needed=*/false).get(element) ==
      simdjson::SUCCESS) {
    return Extract(element, with_set);
  }
  return Extract(Json::parse(line, nullptr, /*allow_exceptions=*/false), with_set);
}

}  // namespace moe::sampler
