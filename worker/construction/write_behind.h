// Writes on a thread of its own, so that the next parameter is read and made meanwhile.
#pragma once

#include <cstdint>
#include <functional>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "worker/kernels/buffer.h"

namespace moe::construction {

// One piece at a time, in order. For one calling thread.
class WriteBehind {
 public:
  using Write = std::function<absl::Status(const uint8_t* bytes, uint64_t size)>;

  // `write` is called on the other thread, and not again when it has failed.
  explicit WriteBehind(Write write);
  ~WriteBehind();  // waits for what was appended
  WriteBehind(const WriteBehind&) = delete;
  WriteBehind& operator=(const WriteBehind&) = delete;

  // Waits for the piece before, then takes the first `size` bytes and leaves another buffer in
  // their place. The error of an earlier piece, every time.
  absl::Status Append(kernels::Buffer<uint8_t>& bytes, uint64_t size);
  // Waits for the last piece.
  absl::Status Finish();

 private:
  void Run();

  const Write write_;
  absl::Mutex mutex_;
  bool is_full_ ABSL_GUARDED_BY(mutex_) = false;
  bool is_closed_ ABSL_GUARDED_BY(mutex_) = false;
  absl::Status status_ ABSL_GUARDED_BY(mutex_);
  // The thread's while is_full_, the caller's otherwise.
  kernels::Buffer<uint8_t> piece_;
  uint64_t size_ = 0;
  std::thread thread_;
};

}  // namespace moe::construction
