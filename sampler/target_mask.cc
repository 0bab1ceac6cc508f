#include "sampler/target_mask.h"

#include <unistd.h>

#include <bit>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/crc32c.h"
#include "common/status.h"

static_assert(std::endian::native == std::endian::little, "masks are little-endian");

namespace moe::sampler {
namespace {

// On disk: do not change without a new version (docs/formats/dataset.md).
constexpr char kMaskMagic[8] = {'M', 'O', 'E', 'T', 'A', 'R', 'G', 'T'};
constexpr uint32_t kMaskVersion = 1;
struct MaskHeader {
  char magic[8];
  uint32_t version;
  uint32_t zero;
  uint64_t num_tokens;
};
static_assert(sizeof(MaskHeader) == 24);

}  // namespace

absl::StatusOr<std::unique_ptr<TargetMaskWriter>> TargetMaskWriter::Resume(const std::string& path,
                                                                           int64_t num_tokens) {
  MOE_ASSIGN_OR_RETURN(AppendFile flags,
                       AppendFile::Open(path + ".flags", static_cast<uint64_t>(num_tokens)));
  return std::unique_ptr<TargetMaskWriter>(new TargetMaskWriter(path, std::move(flags)));
}

TargetMaskWriter::~TargetMaskWriter() {
  if (finished_) ::unlink(flags_.path().c_str());
}

absl::Status TargetMaskWriter::Append(const std::vector<bool>& is_target) {
  const std::vector<uint8_t> flags(is_target.begin(), is_target.end());
  return flags_.Append(flags.data(), flags.size());
}

absl::StatusOr<std::vector<bool>> TargetMaskWriter::Last(int64_t count) {
  MOE_CHECK(count > 0 && count <= num_tokens());
  MOE_RETURN_IF_ERROR(flags_.Flush());
  MOE_ASSIGN_OR_RETURN(const MappedFile flags, MappedFile::Open(flags_.path()));
  const uint8_t* end = flags.data() + flags.size();
  return std::vector<bool>(end - count, end);
}

absl::Status TargetMaskWriter::DropLast(int64_t count) {
  MOE_CHECK(count >= 0 && count <= num_tokens());
  return flags_.Truncate(static_cast<uint64_t>(num_tokens() - count));
}

absl::Status TargetMaskWriter::Finish() {
  MOE_RETURN_IF_ERROR(flags_.Flush());
  MaskHeader header{};
  std::memcpy(header.magic, kMaskMagic, sizeof kMaskMagic);
  header.version = kMaskVersion;
  header.num_tokens = flags_.size();
  std::string content(sizeof header + (flags_.size() + 7) / 8, '\0');
  std::memcpy(content.data(), &header, sizeof header);
  if (flags_.size() > 0) {
    MOE_ASSIGN_OR_RETURN(const MappedFile flags, MappedFile::Open(flags_.path()));
    for (size_t token = 0; token < flags.size(); ++token) {
      char& bits = content[sizeof header + token / 8];
      bits = static_cast<char>(bits | flags.data()[token] << (token % 8));
      num_targets_ += flags.data()[token];
    }
  }
  const uint32_t crc = Crc32c(content.data(), content.size());
  content.append(reinterpret_cast<const char*>(&crc), sizeof crc);
  MOE_RETURN_IF_ERROR(WriteFileAtomically(path_, content));
  finished_ = true;
  return absl::OkStatus();
}

absl::StatusOr<TargetMask> TargetMask::Open(const std::string& path) {
  TargetMask mask;
  MOE_ASSIGN_OR_RETURN(mask.file_, MappedFile::Open(path));
  const uint8_t* data = mask.file_.data();
  const size_t size = mask.file_.size();
  MaskHeader header{};
  uint32_t crc = 0;
  if (size < sizeof header + sizeof crc) {
    return DataLoss("{} has {} bytes, fewer than a mask of targets; prepare the dataset again",
                    path, size);
  }
  std::memcpy(&header, data, sizeof header);
  if (std::memcmp(header.magic, kMaskMagic, sizeof kMaskMagic) != 0 ||
      header.version != kMaskVersion) {
    return DataLoss("{} is no mask of targets of version {}; prepare the dataset again", path,
                    kMaskVersion);
  }
  const size_t payload = size - sizeof header - sizeof crc;
  if (header.num_tokens / 8 + (header.num_tokens % 8 != 0 ? 1 : 0) != payload) {
    return DataLoss("{} has {} bytes of bits for {} tokens; prepare the dataset again", path,
                    payload, header.num_tokens);
  }
  std::memcpy(&crc, data + size - sizeof crc, sizeof crc);
  if (Crc32c(data, size - sizeof crc) != crc) {
    return DataLoss("{}: CRC-32C is not {:08x}; prepare the dataset again", path, crc);
  }
  mask.bits_ = data + sizeof header;
  mask.num_tokens_ = static_cast<int64_t>(header.num_tokens);
  mask.file_crc32c_ = Crc32c(data, size);
  return mask;
}

int64_t TargetMask::Count(int64_t begin, int64_t end) const {
  int64_t count = 0;
  for (int64_t token = begin; token < end; ++token) count += IsTarget(token);
  return count;
}

}  // namespace moe::sampler
