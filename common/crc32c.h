// CRC-32C (Castagnoli), the checksum of every shard, manifest and record we write.
#pragma once

#include <cstddef>
#include <cstdint>

namespace moe {

// The CRC of `data`, or of everything so far when the previous result is passed as `crc`.
// Uses the SSE 4.2 instruction where the CPU has it: about 20 GB/s on one core.
uint32_t Crc32c(const void* data, size_t size, uint32_t crc = 0);

}  // namespace moe
