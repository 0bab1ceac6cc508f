#include "common/crc32c.h"

#include <array>
#include <cstring>

#if defined(__x86_64__)
#include <nmmintrin.h>
#endif

namespace moe {
namespace {

constexpr uint32_t kPolynomial = 0x82F63B78;  // reflected

constexpr std::array<std::array<uint32_t, 256>, 8> MakeTables() {
  std::array<std::array<uint32_t, 256>, 8> tables{};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t crc = i;
    for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ kPolynomial : crc >> 1;
    tables[0][i] = crc;
  }
  for (uint32_t i = 0; i < 256; ++i) {
    for (int t = 1; t < 8; ++t) {
      tables[t][i] = tables[t - 1][i] >> 8 ^ tables[0][tables[t - 1][i] & 0xFF];
    }
  }
  return tables;
}
constexpr auto kTables = MakeTables();

uint32_t ExtendPortable(uint32_t crc, const uint8_t* p, size_t n) {
  while (n >= 8) {
    uint64_t word;
    std::memcpy(&word, p, 8);
    word ^= crc;
    crc = kTables[7][word & 0xFF] ^ kTables[6][word >> 8 & 0xFF] ^ kTables[5][word >> 16 & 0xFF] ^
          kTables[4][word >> 24 & 0xFF] ^ kTables[3][word >> 32 & 0xFF] ^
          kTables[2][word >> 40 & 0xFF] ^ kTables[1][word >> 48 & 0xFF] ^ kTables[0][word >> 56];
    p += 8;
    n -= 8;
  }
  while (n-- > 0) crc = crc >> 8 ^ kTables[0][(crc ^ *p++) & 0xFF];
  return crc;
}

// A linear map of CRC states, by what it makes of each bit.
using LinearMap = std::array<uint32_t, 32>;

constexpr uint32_t Apply(const LinearMap& map, uint32_t crc) {
  uint32_t result = 0;
  for (size_t bit = 0; bit < 32; ++bit) {
    if (crc >> bit & 1) result ^= map[bit];
  }
  return result;
}

constexpr LinearMap Twice(const LinearMap& map) {
  LinearMap twice{};
  for (size_t bit = 0; bit < 32; ++bit) twice[bit] = Apply(map, map[bit]);
  return twice;
}

constexpr LinearMap MakeOneZeroByte() {
  LinearMap map{};
  for (size_t bit = 0; bit < 32; ++bit) {
    const uint32_t crc = uint32_t{1} << bit;
    map[bit] = crc >> 8 ^ kTables[0][crc & 0xFF];
  }
  return map;
}
constexpr LinearMap kOneZeroByte = MakeOneZeroByte();

#if defined(__x86_64__)

// The crc32 instruction has a latency of three cycles and a throughput of one, so three
// independent streams of kStride bytes keep it busy; their results are joined by advancing a CRC
// over kStride (and 2 * kStride) zero bytes, which is linear and done with tables. These are made
// by the compiler: making them took a short program longer than all else it does.
constexpr int kStrideBits = 12;
constexpr size_t kStride = size_t{1} << kStrideBits;

struct ZeroTable {
  uint32_t table[4][256];
  uint32_t Apply(uint32_t crc) const {
    return table[0][crc & 0xFF] ^ table[1][crc >> 8 & 0xFF] ^ table[2][crc >> 16 & 0xFF] ^
           table[3][crc >> 24];
  }
};

// For 1 << bits zero bytes.
constexpr ZeroTable MakeZeroTable(int bits) {
  LinearMap map = kOneZeroByte;
  for (int i = 0; i < bits; ++i) map = Twice(map);
  ZeroTable result{};
  for (uint32_t byte = 0; byte < 4; ++byte) {
    for (uint32_t value = 0; value < 256; ++value) {
      result.table[byte][value] = Apply(map, value << 8 * byte);
    }
  }
  return result;
}
constexpr ZeroTable kOneStride = MakeZeroTable(kStrideBits);
constexpr ZeroTable kTwoStrides = MakeZeroTable(kStrideBits + 1);

uint64_t Load64(const uint8_t* p) {
  uint64_t word;
  std::memcpy(&word, p, 8);
  return word;
}

__attribute__((target("sse4.2"))) uint32_t ExtendSse42(uint32_t crc, const uint8_t* p, size_t n) {
  uint64_t a = crc;
  while (n >= 3 * kStride) {
    uint64_t b = 0, c = 0;
    for (size_t i = 0; i < kStride; i += 8) {
      a = _mm_crc32_u64(a, Load64(p + i));
      b = _mm_crc32_u64(b, Load64(p + kStride + i));
      c = _mm_crc32_u64(c, Load64(p + 2 * kStride + i));
    }
    a = kTwoStrides.Apply(static_cast<uint32_t>(a)) ^ kOneStride.Apply(static_cast<uint32_t>(b)) ^
        c;
    p += 3 * kStride;
    n -= 3 * kStride;
  }
  while (n >= 8) {
    a = _mm_crc32_u64(a, Load64(p));
    p += 8;
    n -= 8;
  }
  uint32_t result = static_cast<uint32_t>(a);
  while (n-- > 0) result = _mm_crc32_u8(result, *p++);
  return result;
}

#endif

}  // namespace

uint32_t Crc32c(const void* data, size_t size, uint32_t crc) {
  const auto* p = static_cast<const uint8_t*>(data);
#if defined(__x86_64__)
  static const bool has_sse42 = __builtin_cpu_supports("sse4.2");
  if (has_sse42) return ~ExtendSse42(~crc, p, size);
#endif
  return ~ExtendPortable(~crc, p, size);
}

uint32_t Crc32cJoin(uint32_t first, uint32_t second, uint64_t second_size) {
  LinearMap map = kOneZeroByte;
  for (; second_size > 0; second_size >>= 1) {
    if (second_size & 1) first = Apply(map, first);
    map = Twice(map);
  }
  return first ^ second;
}

}  // namespace moe
