// Which languages a text is in, by CLD2 (Debian libcld2: the detector of Chromium and of Common
// Crawl's index).
#pragma once

#include <string>
#include <vector>

namespace moe::sampler {

// Whether `code` is an ISO 639-1 code that the detector knows ("en").
bool IsKnownLanguage(const std::string& code);

// The share of `text`, valid UTF-8, that is in one of `codes`, 0 to 1; 1 where the text is too
// short or too odd to tell. Thread-safe.
double ShareInLanguages(const std::string& text, const std::vector<std::string>& codes);

}  // namespace moe::sampler
