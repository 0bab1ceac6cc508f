#include "storage/rocks/log_tail.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>

#include "common/crc32c.h"

namespace moe::storage {
namespace {

// RocksDB's log format: blocks of 32 KiB; in them records of CRC-32C (4 bytes, masked, of type and
// payload), payload size (2), type (1) and payload. A header never crosses the end of a block.
constexpr size_t kBlockBytes = 32768;
constexpr size_t kHeaderBytes = 7;
constexpr uint8_t kFullType = 1;   // a whole write
constexpr uint8_t kFirstType = 2;  // the first part of one; 3 and 4 are the others
constexpr uint8_t kLastType = 4;

struct Record {
  uint8_t type = 0;
  size_t end = 0;  // offset
};

uint32_t ReadLittleEndian(const std::string& bytes, size_t offset, int count) {
  uint32_t value = 0;
  for (int i = 0; i < count; ++i) {
    value |= uint32_t{static_cast<uint8_t>(bytes[offset + static_cast<size_t>(i)])} << (8 * i);
  }
  return value;
}

uint32_t Mask(uint32_t crc) { return ((crc >> 15) | (crc << 17)) + 0xa282ead8U; }

// The record at `offset`, where there is an intact one.
std::optional<Record> ReadRecord(const std::string& log, size_t offset) {
  const size_t block_end = std::min(log.size(), (offset / kBlockBytes + 1) * kBlockBytes);
  if (offset + kHeaderBytes > block_end) return std::nullopt;
  const size_t size = ReadLittleEndian(log, offset + 4, 2);
  const auto type = static_cast<uint8_t>(log[offset + 6]);
  const size_t end = offset + kHeaderBytes + size;
  if (type < kFullType || type > kLastType || end > block_end) return std::nullopt;
  if (Mask(Crc32c(log.data() + offset + 6, 1 + size)) != ReadLittleEndian(log, offset, 4)) {
    return std::nullopt;
  }
  return Record{type, end};
}

}  // namespace

bool EndsInATornWrite(const std::string& log) {
  size_t offset = 0;
  while (offset < log.size()) {
    if (kBlockBytes - offset % kBlockBytes < kHeaderBytes) {  // filled up
      offset += kBlockBytes - offset % kBlockBytes;
      continue;
    }
    const std::optional<Record> record = ReadRecord(log, offset);
    if (!record.has_value()) break;
    offset = record->end;
  }
  for (++offset; offset < log.size(); ++offset) {
    const std::optional<Record> record = ReadRecord(log, offset);
    if (record.has_value() && (record->type == kFullType || record->type == kFirstType)) {
      return false;
    }
  }
  return true;
}

}  // namespace moe::storage
