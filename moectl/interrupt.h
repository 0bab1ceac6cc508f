// Ctrl-C for commands that wait: the command ends, the job goes on.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <thread>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"

namespace moe::moectl {

// Thread-safe. At most one object may catch signals at a time.
class Interrupt {
 public:
  Interrupt() = default;
  ~Interrupt();
  Interrupt(const Interrupt&) = delete;
  Interrupt& operator=(const Interrupt&) = delete;

  // From now on the first SIGINT calls Request and the second ends the process. Without this call
  // SIGINT does what it does to every program.
  void CatchSignals();

  // What SIGINT does. For tests too.
  void Request() ABSL_LOCKS_EXCLUDED(mutex_);
  bool requested() const ABSL_LOCKS_EXCLUDED(mutex_);
  // Sleeps for `millis`, or until Request. True where interrupted.
  bool WaitFor(int64_t millis) const ABSL_LOCKS_EXCLUDED(mutex_);

  // While it lives, Request also runs `callback`, on another thread and under a lock: it must be
  // quick and must not call Interrupt. Runs it at once where Request has been called already.
  class Callback {
   public:
    Callback(Interrupt* interrupt, std::function<void()> callback);
    ~Callback();
    Callback(const Callback&) = delete;
    Callback& operator=(const Callback&) = delete;

   private:
    Interrupt* const interrupt_;
  };

 private:
  mutable absl::Mutex mutex_;
  bool requested_ ABSL_GUARDED_BY(mutex_) = false;
  std::map<const Callback*, std::function<void()>> callbacks_ ABSL_GUARDED_BY(mutex_);
  std::thread signal_thread_;
};

}  // namespace moe::moectl
