// GPT-2's split into words, by hand for ASCII: what the regular expression of byte-level BPE does,
// at a tenth of its cost.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace moe::sampler {

// The pattern that this file knows: the one inside the ByteLevel step.
inline constexpr char kGpt2Pattern[] =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// The end of the stretch of text[begin ..) that can be split without looking at anything else:
// white space, then what is none, up to the next ASCII white space that follows another ASCII
// character. No match of the pattern reaches across its end. `is_ascii` says whether all of it is.
size_t IndependentStretch(std::string_view text, size_t begin, bool& is_ascii);

// Appends the words of an ASCII stretch, which together are all of it. `single_digits`: as after a
// Digits step, each digit is a word of its own and parts the text before the pattern sees it.
void SplitAsciiWords(std::string_view stretch, bool single_digits,
                     std::vector<std::string_view>& words);

}  // namespace moe::sampler
