// How far something is, as a bar of characters.
#pragma once

#include <cstdint>
#include <string>

namespace moe::term {

// "[=====>    ]", `width` columns with the brackets (at least 3). Full only where done >= total;
// empty where total is 0 or less. Nothing done shows no head.
std::string ProgressBar(int64_t done, int64_t total, int width);

}  // namespace moe::term
