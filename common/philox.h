// Counter-based random numbers: Philox4x32-10 (Salmon et al., SC'11).
//
// A draw is a pure function of (seed, stream, index), so nothing has to be saved to repeat a run,
// and the order in which ranks or threads draw does not matter.
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

#include "common/host_device.h"

namespace moe {

// What a stream of draws is for. Embedded in the results of runs: do not renumber.
enum class RandomStream : uint32_t {
  kExpertPartition = 1,  // index: layer
  kGateInit = 2,         // index: layer
  kGateNoise = 3,        // index: see worker/model/gate
  kDomainChoice = 4,     // index: global sample
  kSampleShuffle = 5,    // index: epoch
  kWeightInit = 6,       // index: parameter
  kTest = 1000,
};

namespace philox_internal {
MOE_HOST_DEVICE inline void Round(std::array<uint32_t, 4>& c, uint32_t k0, uint32_t k1) {
  const uint64_t p0 = uint64_t{0xD2511F53} * c[0];
  const uint64_t p1 = uint64_t{0xCD9E8D57} * c[2];
  c = {static_cast<uint32_t>(p1 >> 32) ^ c[1] ^ k0, static_cast<uint32_t>(p1),
       static_cast<uint32_t>(p0 >> 32) ^ c[3] ^ k1, static_cast<uint32_t>(p0)};
}
}  // namespace philox_internal

// The raw block function: four 32-bit words from a 128-bit counter and a 64-bit key.
MOE_HOST_DEVICE inline std::array<uint32_t, 4> Philox4x32(std::array<uint32_t, 4> counter,
                                                          uint64_t key) {
  uint32_t k0 = static_cast<uint32_t>(key), k1 = static_cast<uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    philox_internal::Round(counter, k0, k1);
    k0 += 0x9E3779B9;
    k1 += 0xBB67AE85;
  }
  return counter;
}

// Draw number `index` of `stream`, sub-stream `substream`, under `seed`.
MOE_HOST_DEVICE inline std::array<uint32_t, 4> Philox(uint64_t seed, RandomStream stream,
                                                      uint32_t substream, uint64_t index) {
  return Philox4x32({static_cast<uint32_t>(index), static_cast<uint32_t>(index >> 32), substream,
                     static_cast<uint32_t>(stream)},
                    seed);
}

// Uniform in [0, 1) with 53 bits, from two words.
inline double UniformDouble(uint32_t hi, uint32_t lo) {
  return static_cast<double>((uint64_t{hi} << 32 | lo) >> 11) * 0x1.0p-53;
}

// Uniform in (0, 1] with 24 bits: safe for a logarithm.
MOE_HOST_DEVICE inline float UniformFloatOpen(uint32_t word) {
  return static_cast<float>((word >> 8) + 1) * 0x1.0p-24f;
}

// Four standard normal values from four words (Box-Muller).
MOE_HOST_DEVICE inline std::array<float, 4> Normal4(const std::array<uint32_t, 4>& w) {
  constexpr float kTwoPi = 6.283185307179586f;
  const float r0 = std::sqrt(-2.0f * std::log(UniformFloatOpen(w[0])));
  const float r1 = std::sqrt(-2.0f * std::log(UniformFloatOpen(w[2])));
  const float a0 = kTwoPi * UniformFloatOpen(w[1]), a1 = kTwoPi * UniformFloatOpen(w[3]);
  return {r0 * std::cos(a0), r0 * std::sin(a0), r1 * std::cos(a1), r1 * std::sin(a1)};
}

// A generator over one stream, for algorithms that consume draws one by one. Not thread-safe.
class PhiloxGenerator {
 public:
  PhiloxGenerator(uint64_t seed, RandomStream stream, uint32_t substream)
      : seed_(seed), stream_(stream), substream_(substream) {}
  uint32_t Next32() {
    if (used_ == 4) {
      block_ = Philox(seed_, stream_, substream_, index_++);
      used_ = 0;
    }
    return block_[used_++];
  }
  uint64_t Next64() {
    const uint64_t hi = Next32();
    return hi << 32 | Next32();
  }
  // Uniform in [0, bound), without bias (Lemire's method). bound > 0.
  uint64_t Below(uint64_t bound) {
    unsigned __int128 product = static_cast<unsigned __int128>(Next64()) * bound;
    uint64_t low = static_cast<uint64_t>(product);
    if (low < bound) {
      const uint64_t threshold = (0 - bound) % bound;
      while (low < threshold) {
        product = static_cast<unsigned __int128>(Next64()) * bound;
        low = static_cast<uint64_t>(product);
      }
    }
    return static_cast<uint64_t>(product >> 64);
  }

 private:
  uint64_t seed_;
  RandomStream stream_;
  uint32_t substream_;
  uint64_t index_ = 0;
  std::array<uint32_t, 4> block_{};
  int used_ = 4;
};

}  // namespace moe
