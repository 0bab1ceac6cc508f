#include "storage/artefacts/direct_reader.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <thread>
#include <vector>

#include "common/crc32c.h"
#include "common/status.h"
#include "storage/artefacts/direct_io.h"

namespace moe::artefacts {
namespace {

// Where `size` bytes at `offset` can be read to at once; or null.
uint8_t* PlaceOf(uint64_t offset, size_t size, const std::vector<Destination>& destinations) {
  if (size % kDirectAlignment != 0) return nullptr;
  for (const Destination& part : destinations) {
    if (offset < part.begin || offset + size > part.end) continue;
    uint8_t* place = part.to + (offset - part.begin);
    if (reinterpret_cast<uintptr_t>(place) % kDirectAlignment == 0) return place;
  }
  return nullptr;
}

void Copy(uint64_t offset, const uint8_t* data, size_t size,
          const std::vector<Destination>& destinations) {
  for (const Destination& part : destinations) {
    const uint64_t begin = std::max(part.begin, offset), end = std::min(part.end, offset + size);
    if (begin >= end) continue;
    std::memcpy(part.to + (begin - part.begin), data + (begin - offset), end - begin);
  }
}

}  // namespace

absl::StatusOr<FileContent> ReadDirect(const std::string& path,
                                       const std::vector<Destination>& destinations) {
  MOE_ASSIGN_OR_RETURN(const FileDescriptor fd, OpenDirect(path, O_RDONLY));
  struct stat info;
  if (::fstat(fd.get(), &info) != 0) return ErrnoStatus(errno, "cannot stat " + path);
  if (!S_ISREG(info.st_mode)) return InvalidArgument("{} is not a regular file", path);

  const auto size_bytes = static_cast<uint64_t>(info.st_size);
  const auto num_blocks =
      static_cast<size_t>((size_bytes + kDirectBlockBytes - 1) / kDirectBlockBytes);
  const auto num_threads = std::min(num_blocks, static_cast<size_t>(kDirectThreads));
  const auto size_of = [&](size_t block) {
    const uint64_t left = size_bytes - block * kDirectBlockBytes;
    return static_cast<size_t>(std::min<uint64_t>(left, kDirectBlockBytes));
  };

  std::vector<uint32_t> crc32c(num_blocks);
  std::vector<absl::Status> statuses(num_threads);  // one per thread
  std::atomic<size_t> next = 0;
  const auto read = [&](absl::Status& status) {
    const AlignedBuffer buffer = AllocateAligned(kDirectBlockBytes);
    for (size_t block; status.ok() && (block = next++) < num_blocks;) {
      const uint64_t offset = block * kDirectBlockBytes;
      const size_t size = size_of(block);
      uint8_t* place = PlaceOf(offset, size, destinations);
      uint8_t* data = place != nullptr ? place : buffer.get();
      status = ReadAt(fd.get(), data, size, offset, path);
      if (!status.ok()) break;
      crc32c[block] = Crc32c(data, size);
      if (place == nullptr) Copy(offset, data, size, destinations);
    }
  };
  std::vector<std::thread> threads;
  for (size_t i = 1; i < num_threads; ++i) threads.emplace_back(read, std::ref(statuses[i]));
  if (num_threads > 0) read(statuses[0]);
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& status : statuses) MOE_RETURN_IF_ERROR(status);
  // Without O_DIRECT the pages were only read for this.
  if ((::fcntl(fd.get(), F_GETFL) & O_DIRECT) == 0) {
    ::posix_fadvise(fd.get(), 0, 0, POSIX_FADV_DONTNEED);
  }

  FileContent content = {.size_bytes = size_bytes, .crc32c = 0};
  for (size_t block = 0; block < num_blocks; ++block) {
    content.crc32c = Crc32cJoin(content.crc32c, crc32c[block], size_of(block));
  }
  return content;
}

}  // namespace moe::artefacts
