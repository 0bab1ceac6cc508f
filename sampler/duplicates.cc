#include "sampler/duplicates.h"

#include <xxhash.h>

namespace moe::sampler {

TextHash HashOf(const std::string& text) {
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return {.low = hash.low64, .high = hash.high64};
}

}  // namespace moe::sampler
