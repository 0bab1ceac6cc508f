#include "worker/parallel/background_collectives.h"

#include <chrono>
#include <utility>

namespace moe::parallel {
namespace {

using Clock = std::chrono::steady_clock;

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

}  // namespace

BackgroundCollectives::BackgroundCollectives(std::unique_ptr<Communicator> communicator)
    : communicator_(std::move(communicator)), thread_([this] { Run(); }) {}

BackgroundCollectives::~BackgroundCollectives() {
  {
    absl::MutexLock lock(&mutex_);
    stopping_ = true;
    queue_.clear();
  }
  thread_.join();
}

int64_t BackgroundCollectives::ReduceScatterSum(at::Tensor values, Range within, int64_t step) {
  return Begin(step, [values, within](Communicator& communicator) mutable {
    communicator.ReduceScatterSum(values, within);
  });
}

int64_t BackgroundCollectives::AllGather(at::Tensor values, Range within, int64_t step) {
  return Begin(step, [values, within](Communicator& communicator) mutable {
    communicator.AllGather(values, within);
  });
}

int64_t BackgroundCollectives::Begin(int64_t step, Operation operation) {
  absl::MutexLock lock(&mutex_);
  queue_.push_back([step, operation = std::move(operation)](Communicator& communicator) {
    communicator.set_step(step);
    operation(communicator);
  });
  return ++begun_;
}

void BackgroundCollectives::Wait(int64_t ticket) {
  const Clock::time_point start = Clock::now();
  absl::MutexLock lock(&mutex_);
  const auto is_over = [&] {
    mutex_.AssertHeld();
    return done_ >= ticket || error_ != nullptr;
  };
  mutex_.Await(absl::Condition(&is_over));
  waited_seconds_ += SecondsSince(start);
  if (done_ < ticket) std::rethrow_exception(error_);
}

double BackgroundCollectives::busy_seconds() const {
  absl::MutexLock lock(&mutex_);
  return busy_seconds_;
}

void BackgroundCollectives::Run() {
  for (;;) {
    Operation operation;
    {
      absl::MutexLock lock(&mutex_);
      const auto has_work = [&] {
        mutex_.AssertHeld();
        return stopping_ || !queue_.empty();
      };
      mutex_.Await(absl::Condition(&has_work));
      if (queue_.empty()) return;
      operation = std::move(queue_.front());
      queue_.pop_front();
    }
    const Clock::time_point start = Clock::now();
    std::exception_ptr error;
    try {
      operation(*communicator_);
    } catch (...) {
      error = std::current_exception();
    }
    absl::MutexLock lock(&mutex_);
    busy_seconds_ += SecondsSince(start);
    if (error != nullptr) {
      error_ = error;
      return;
    }
    ++done_;
  }
}

}  // namespace moe::parallel
