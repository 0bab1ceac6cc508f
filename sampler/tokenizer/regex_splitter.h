// Splits text by a regular expression, as the pre-tokenizers of Hugging Face tokenizers do.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moe::sampler {

// "Isolated" behaviour: every match is a piece, and so is what lies between matches. Patterns are
// written for Oniguruma and compiled for PCRE2; where the two differ the pattern is translated:
// \s is Unicode White_Space (PCRE2 adds U+180E), and \p{...} gets the characters of newer versions
// of Unicode (unicode_additions.h). Thread-safe.
class RegexSplitter {
 public:
  // INVALID_ARGUMENT with the place in the pattern.
  static absl::StatusOr<std::unique_ptr<RegexSplitter>> Create(const std::string& pattern);
  // What the Digits step does: every numeric character is a piece of its own, or every run of them.
  static absl::StatusOr<std::unique_ptr<RegexSplitter>> CreateDigits(bool individual);
  ~RegexSplitter();

  // Appends the pieces of `text`, which is valid UTF-8. RESOURCE_EXHAUSTED where the pattern
  // backtracks without end.
  absl::Status Split(std::string_view text, std::vector<std::string_view>& pieces) const;

 private:
  class Impl;
  explicit RegexSplitter(std::unique_ptr<Impl> impl);
  static absl::StatusOr<std::unique_ptr<RegexSplitter>> Compile(const std::string& pcre_pattern,
                                                                const std::string& pattern);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moe::sampler
