#include "sampler/tokenizer/regex_splitter.h"

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "common/status.h"
#include "sampler/tokenizer/unicode_additions.h"

namespace moe::sampler {
namespace {

// Unicode White_Space, as pieces of a character class.
constexpr char kWhiteSpace[] =
    "\\x{9}-\\x{D}\\x{20}\\x{85}\\x{A0}\\x{1680}\\x{2000}-\\x{200A}\\x{2028}\\x{2029}\\x{202F}"
    "\\x{205F}\\x{3000}";

// What \p{name} misses in PCRE2, or "".
const char* Additions(const std::string& name) {
  for (const UnicodeAddition& addition : kUnicodeAdditions) {
    if (name == addition.property) return addition.ranges;
  }
  return "";
}

absl::StatusOr<std::string> Translate(const std::string& pattern) {
  std::string result;
  bool in_class = false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    const char c = pattern[i];
    if (c == '[' && in_class) {
      return InvalidArgument("pattern {}: a class inside a class, at {}, is not supported", pattern,
                             i);
    }
    if (c == '[') in_class = true;
    if (c == ']') in_class = false;
    if (c != '\\' || i + 1 == pattern.size()) {
      result += c;
      continue;
    }
    const char escaped = pattern[++i];
    std::string members;  // of the class that the escape stands for
    bool negated = false;
    if (escaped == 's' || escaped == 'S') {
      members = kWhiteSpace;
      negated = escaped == 'S';
    } else if ((escaped == 'p' || escaped == 'P') && i + 1 < pattern.size() &&
               pattern[i + 1] == '{') {
      const size_t close = pattern.find('}', i);
      if (close == std::string::npos) {
        return InvalidArgument("pattern {}: no '}}' after {}", pattern, i);
      }
      const std::string name = pattern.substr(i + 2, close - i - 2);
      members = "\\p{" + name + "}" + Additions(name);
      negated = escaped == 'P';
      i = close;
    } else {
      result += c;
      result += escaped;
      continue;
    }
    if (in_class && negated) {
      return InvalidArgument("pattern {}: \\{} in a class, at {}, is not supported", pattern,
                             escaped, i);
    }
    if (in_class) {
      result += members;
    } else {
      result += (negated ? "[^" : "[") + members + "]";
    }
  }
  return result;
}

// One per thread and not per splitter: matching is not re-entrant on a thread.
class MatchScratch {
 public:
  MatchScratch()
      : data(pcre2_match_data_create(1, nullptr)),
        context(pcre2_match_context_create(nullptr)),
        stack(pcre2_jit_stack_create(32 << 10, 16 << 20, nullptr)) {
    pcre2_jit_stack_assign(context, nullptr, stack);
  }
  ~MatchScratch() {
    pcre2_jit_stack_free(stack);
    pcre2_match_context_free(context);
    pcre2_match_data_free(data);
  }
  pcre2_match_data* const data;
  pcre2_match_context* const context;
  pcre2_jit_stack* const stack;
};

std::string PcreError(int code) {
  PCRE2_UCHAR text[256];
  pcre2_get_error_message(code, text, sizeof text);
  return reinterpret_cast<const char*>(text);
}

}  // namespace

class RegexSplitter::Impl {
 public:
  ~Impl() { pcre2_code_free(code); }
  pcre2_code* code = nullptr;
  std::string pattern;
};

RegexSplitter::RegexSplitter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
RegexSplitter::~RegexSplitter() = default;

absl::StatusOr<std::unique_ptr<RegexSplitter>> RegexSplitter::Create(const std::string& pattern) {
  MOE_ASSIGN_OR_RETURN(const std::string translated, Translate(pattern));
  return Compile(translated, pattern);
}

absl::StatusOr<std::unique_ptr<RegexSplitter>> RegexSplitter::CreateDigits(bool individual) {
  const std::string digits = std::string("[\\p{N}") + kDigitsAdditions + "]";
  return Compile(individual ? digits : digits + "+", "Digits");
}

absl::StatusOr<std::unique_ptr<RegexSplitter>> RegexSplitter::Compile(
    const std::string& pcre_pattern, const std::string& pattern) {
  auto impl = std::make_unique<Impl>();
  impl->pattern = pattern;
  int error = 0;
  PCRE2_SIZE offset = 0;
  impl->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pcre_pattern.data()), pcre_pattern.size(),
                             PCRE2_UTF | PCRE2_UCP, &error, &offset, nullptr);
  if (impl->code == nullptr) {
    return InvalidArgument("pattern {}: {}, at {} of its translation {}", pattern, PcreError(error),
                           offset, pcre_pattern);
  }
  // Where the CPU has no JIT, the interpreter gives the same matches.
  pcre2_jit_compile(impl->code, PCRE2_JIT_COMPLETE);
  return std::unique_ptr<RegexSplitter>(new RegexSplitter(std::move(impl)));
}

absl::Status RegexSplitter::Split(std::string_view text,
                                  std::vector<std::string_view>& pieces) const {
  thread_local const MatchScratch scratch;
  const auto* subject = reinterpret_cast<PCRE2_SPTR>(text.data());
  const PCRE2_SIZE* const match = pcre2_get_ovector_pointer(scratch.data);
  size_t taken = 0;  // everything before is in `pieces`
  for (size_t start = 0; start < text.size();) {
    const int rc = pcre2_match(impl_->code, subject, text.size(), start, PCRE2_NO_UTF_CHECK,
                               scratch.data, scratch.context);
    if (rc == PCRE2_ERROR_NOMATCH) break;
    if (rc < 0) {
      return ResourceExhausted("pattern {} on a text of {} bytes: {}", impl_->pattern, text.size(),
                               PcreError(rc));
    }
    if (match[0] > taken) pieces.push_back(text.substr(taken, match[0] - taken));
    if (match[1] > match[0]) pieces.push_back(text.substr(match[0], match[1] - match[0]));
    taken = match[1];
    start = match[1];
    if (match[1] == match[0]) {  // an empty match: go on one character later
      do ++start;
      while (start < text.size() && (static_cast<unsigned char>(text[start]) & 0xC0) == 0x80);
    }
  }
  if (taken < text.size()) pieces.push_back(text.substr(taken));
  return absl::OkStatus();
}

}  // namespace moe::sampler
