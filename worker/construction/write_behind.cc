#include "worker/construction/write_behind.h"

#include <utility>

namespace moe::construction {

WriteBehind::WriteBehind(Write write) : write_(std::move(write)), thread_([this] { Run(); }) {}

WriteBehind::~WriteBehind() {
  {
    const absl::MutexLock lock(&mutex_);
    is_closed_ = true;
  }
  thread_.join();
}

absl::Status WriteBehind::Append(kernels::Buffer<uint8_t>& bytes, uint64_t size) {
  const absl::MutexLock lock(&mutex_);
  const auto is_free = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !is_full_; };
  mutex_.Await(absl::Condition(&is_free));
  if (!status_.ok()) return status_;
  std::swap(piece_, bytes);
  size_ = size;
  is_full_ = true;
  return absl::OkStatus();
}

absl::Status WriteBehind::Finish() {
  const absl::MutexLock lock(&mutex_);
  const auto is_free = [this]() ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return !is_full_; };
  mutex_.Await(absl::Condition(&is_free));
  return status_;
}

void WriteBehind::Run() {
  const auto has_work = [this]()
                            ABSL_SHARED_LOCKS_REQUIRED(mutex_) { return is_full_ || is_closed_; };
  for (;;) {
    {
      const absl::MutexLock lock(&mutex_);
      mutex_.Await(absl::Condition(&has_work));
      if (!is_full_) return;
    }
    absl::Status status = write_(piece_.data(), size_);
    const absl::MutexLock lock(&mutex_);
    status_ = std::move(status);
    is_full_ = false;
  }
}

}  // namespace moe::construction
