// The trained models as bytes: sampler/filters/models/*.model, compiled in by CMake.
#pragma once

#include <cstdint>
#include <span>

namespace moe::sampler {

extern const std::span<const uint8_t> kFluencyModelFile;
extern const std::span<const uint8_t> kAdvertisementModelFile;

}  // namespace moe::sampler
