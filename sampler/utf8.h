// Making text valid UTF-8, the way every reference decoder does.
#pragma once

#include <cstdint>
#include <string>

namespace moe::sampler {

// Replaces every maximal ill-formed part by U+FFFD, as Python's bytes.decode("utf-8", "replace")
// and the WHATWG decoder do (Unicode 15, section 3.9, "Substitution of Maximal Subparts"). Returns
// how many replacements there were; the text is untouched where there are none.
int64_t RepairUtf8(std::string& text);

}  // namespace moe::sampler
