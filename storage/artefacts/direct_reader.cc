#include "storage/artefacts/direct_reader.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <thread>
#include <vector>

#include "common/crc32c.h"
#include "common/status.h"
#include "storage/artefacts/direct_io.h"

namespace moe::artefacts {

absl::StatusOr<FileContent> ReadDirect(const std::string& path, const TakeBlock& take) {
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
      status = ReadAt(fd.get(), buffer.get(), size_of(block), offset, path);
      if (!status.ok()) break;
      crc32c[block] = Crc32c(buffer.get(), size_of(block));
      if (take) take(offset, buffer.get(), size_of(block));
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
