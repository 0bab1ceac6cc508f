#include "sampler/filters/quantile.h"

#include <algorithm>
#include <cmath>

namespace moe::sampler {

std::vector<Ranked> TakeWorst(std::vector<Ranked> documents, double share) {
  const auto count =
      static_cast<std::ptrdiff_t>(std::floor(share * static_cast<double>(documents.size())));
  std::nth_element(documents.begin(), documents.begin() + count, documents.end());
  documents.resize(static_cast<size_t>(count));
  return documents;
}

}  // namespace moe::sampler
