#include "common/term/progress_bar.h"

#include <algorithm>

namespace moe::term {

std::string ProgressBar(int64_t done, int64_t total, int width) {
  const int inner = std::max(1, width - 2);
  if (total <= 0 || done <= 0) return "[" + std::string(inner, ' ') + "]";
  if (done >= total) return "[" + std::string(inner, '=') + "]";
  const double share = static_cast<double>(done) / static_cast<double>(total);
  const int body = std::min(inner - 1, static_cast<int>(share * inner));
  return "[" + std::string(body, '=') + ">" + std::string(inner - 1 - body, ' ') + "]";
}

}  // namespace moe::term
