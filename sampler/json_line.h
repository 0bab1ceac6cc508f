// One line of a corpus in JSON lines: the document, and the set that it belongs to.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace moe::sampler {

struct JsonLine {
  bool is_object = false;
  std::optional<std::string> text;  // "text", or else "content", where that is a string
  // "meta.redpajama_set_name" (SlimPajama), or else "red_pajama_subset" (RedPajama); "" where the
  // line does not say or was not asked.
  std::string set;
};

// Parses with simdjson, at several times the speed of nlohmann::json. A line that simdjson refuses
// (an integer beyond 64 bits, say, which is valid JSON) is parsed again by nlohmann::json, whose
// answer counts. Not thread-safe.
class JsonLineParser {
 public:
  JsonLineParser();
  ~JsonLineParser();
  JsonLineParser(JsonLineParser&&) noexcept;
  JsonLineParser& operator=(JsonLineParser&&) noexcept;

  // `line` is valid UTF-8; its capacity may grow.
  JsonLine Parse(std::string& line, bool with_set);

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moe::sampler
