// Sequential writing of a large file past the page cache, with its CRC-32C.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "common/file.h"
#include "storage/artefacts/direct_io.h"

namespace moe::artefacts {

// Whether blocks are read back and compared once they are written: twice the work for the disk, for
// what nobody could make again if it were found damaged later.
enum class ReadBack { kNever, kEachBlock };

// Writes with O_DIRECT (buffered where the file system refuses that), on threads of its own.
// Removes the file where anything fails, and where it is destroyed before Finish().
class DirectWriter {
 public:
  // Reserves `size_bytes` on the disk, so that a full one is seen before anything is written:
  // RESOURCE_EXHAUSTED with what is needed and free.
  static absl::StatusOr<std::unique_ptr<DirectWriter>> Create(const std::string& path,
                                                              uint64_t size_bytes,
                                                              ReadBack read_back);
  ~DirectWriter();
  DirectWriter(const DirectWriter&) = delete;
  DirectWriter& operator=(const DirectWriter&) = delete;

  // Every call after a failed one fails in the same way; a write that fails may do so in a later
  // call. UNAVAILABLE where the disk gave back other bytes than were written.
  absl::Status Append(const void* data, size_t size);
  // The same without a copy of what is aligned like the file there (kDirectAlignment): the caller
  // keeps `data` as it is until Finish.
  absl::Status AppendKept(const void* data, size_t size);
  // Writes the rest, cuts the file to its exact size, syncs and closes it.
  absl::Status Finish();

  uint64_t size_bytes() const { return size_bytes_; }  // appended so far
  uint32_t crc32c() const { return crc32c_; }          // of all that, after Finish

 private:
  struct Block {
    AlignedBuffer owned;  // kDirectBlockBytes; null where the caller keeps the bytes
    const uint8_t* kept = nullptr;
    size_t size = 0;
    uint64_t offset = 0;
    size_t number = 0;

    const uint8_t* data() const { return owned != nullptr ? owned.get() : kept; }
  };
  // Of a block, by its number.
  struct Sum {
    uint32_t crc32c = 0;
    size_t size = 0;
  };

  DirectWriter(std::string path, FileDescriptor fd, ReadBack read_back);

  // Asks for the blocks at once; fails, without taking any, where they are more than there are.
  absl::Status Reserve(uint64_t size_bytes);
  absl::Status Fail(absl::Status status);  // removes the file
  absl::Status WriteRest();
  // `scratch` as in CheckWritten.
  absl::Status WriteBlock(const Block& block, uint8_t* scratch);

  void StartThreads();
  // Gives `filling_` away, and waits for memory for the next.
  absl::Status HandOver();
  void Enqueue(Block block) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // Ends the threads when all that was handed over is written.
  absl::Status Drain();
  // The same without writing what has not been begun.
  void Abandon();
  void RunThread();

  const std::string path_;
  FileDescriptor fd_;
  const ReadBack read_back_;
  Block filling_;
  uint64_t size_bytes_ = 0;
  uint32_t crc32c_ = 0;
  bool finished_ = false;
  absl::Status status_;

  absl::Mutex mutex_;
  std::deque<Block> full_ ABSL_GUARDED_BY(mutex_);
  std::vector<AlignedBuffer> spare_ ABSL_GUARDED_BY(mutex_);
  std::vector<Sum> sums_ ABSL_GUARDED_BY(mutex_);
  int num_buffers_ ABSL_GUARDED_BY(mutex_) = 1;
  bool draining_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status written_ ABSL_GUARDED_BY(mutex_);  // the first that failed
  std::vector<std::thread> threads_;              // none until there is a whole block
};

// That the file holds `expected` at `offset`, read into `scratch` (both AlignUp(size) bytes).
// UNAVAILABLE where it holds something else: the storage's fault, so another attempt may do better.
absl::Status CheckWritten(int fd, const uint8_t* expected, size_t size, uint64_t offset,
                          uint8_t* scratch, const std::string& path);

}  // namespace moe::artefacts
