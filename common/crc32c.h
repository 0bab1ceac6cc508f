// CRC-32C (Castagnoli), the checksum of every shard, manifest and record we write.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moe {

// The CRC of `data`, or of everything so far when the previous result is passed as `crc`.
// Uses the SSE 4.2 instruction where the CPU has it: about 20 GB/s on one core.
uint32_t Crc32c(const void* data, size_t size, uint32_t crc = 0);

// The CRC of what has the CRC `first`, followed by `second_size` bytes that have the CRC `second`.
uint32_t Crc32cJoin(uint32_t first, uint32_t second, uint64_t second_size);

}  // namespace moe
