#include "sampler/filters/language.h"

#include <cld2/public/compact_lang_det.h>

#include <algorithm>
#include <limits>

namespace moe::sampler {

bool IsKnownLanguage(const std::string& code) {
  return code.size() == 2 && CLD2::GetLanguageFromName(code.c_str()) != CLD2::UNKNOWN_LANGUAGE;
}

double ShareInLanguages(const std::string& text, const std::vector<std::string>& codes) {
  // The detector takes text for interchange: no control characters and no noncharacters.
  std::string plain = text.substr(0, std::numeric_limits<int>::max());
  for (char& c : plain) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < ' ' && c != '\n' && c != '\t' && c != '\r') || byte == 0x7F) c = ' ';
  }
  CLD2::Language languages[3];
  int percents[3];
  double scores[3];
  int text_bytes = 0, valid_bytes = 0;
  bool is_reliable = false;
  const auto detect = [&](int size) {
    std::fill_n(languages, 3, CLD2::UNKNOWN_LANGUAGE);
    CLD2::ExtDetectLanguageSummaryCheckUTF8(
        plain.data(), size, /*is_plain_text=*/true, /*cld_hints=*/nullptr, /*flags=*/0, languages,
        percents, scores, /*resultchunkvector=*/nullptr, &text_bytes, &is_reliable, &valid_bytes);
  };
  detect(static_cast<int>(plain.size()));
  // A noncharacter: what comes before it has to do.
  if (valid_bytes < static_cast<int>(plain.size())) detect(valid_bytes);
  int inside = 0, known = 0;
  for (int i = 0; i < 3; ++i) {
    if (languages[i] == CLD2::UNKNOWN_LANGUAGE) continue;
    known += percents[i];
    const std::string code = CLD2::LanguageCode(languages[i]);
    // "zh-Hant" counts as "zh".
    if (std::find(codes.begin(), codes.end(), code.substr(0, code.find('-'))) != codes.end()) {
      inside += percents[i];
    }
  }
  if (known == 0) return 1;
  return static_cast<double>(inside) / static_cast<double>(known);
}

}  // namespace moe::sampler
