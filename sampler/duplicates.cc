#include "sampler/duplicates.h"

#include <xxhash.h>

namespace moe::sampler {

bool SeenTexts::Insert(const std::string& text) {
  const XXH128_hash_t hash = XXH3_128bits(text.data(), text.size());
  return hashes_.emplace(hash.low64, hash.high64).second;
}

}  // namespace moe::sampler
