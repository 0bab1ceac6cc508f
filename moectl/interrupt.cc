#include "moectl/interrupt.h"

#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <cerrno>

#include "common/check.h"

namespace moe::moectl {
namespace {

// A handler may do almost nothing, so it writes to a pipe and a thread does the rest.
int signal_pipe[2] = {-1, -1};

constexpr char kSignalled = 's';
constexpr char kQuit = 'q';

void OnSignal(int) {
  const int saved_errno = errno;
  // The pipe cannot be full: SA_RESETHAND lets the handler run once.
  [[maybe_unused]] const ssize_t written = write(signal_pipe[1], &kSignalled, 1);
  errno = saved_errno;
}

}  // namespace

Interrupt::~Interrupt() {
  if (!signal_thread_.joinable()) return;
  signal(SIGINT, SIG_DFL);
  MOE_CHECK(write(signal_pipe[1], &kQuit, 1) == 1);
  signal_thread_.join();
  close(signal_pipe[0]);
  close(signal_pipe[1]);
}

void Interrupt::CatchSignals() {
  if (signal_thread_.joinable()) return;
  MOE_CHECK(pipe2(signal_pipe, O_CLOEXEC) == 0);
  signal_thread_ = std::thread([this] {
    char what = 0;
    ssize_t size = 0;
    do {
      size = read(signal_pipe[0], &what, 1);
      if (size == 1 && what == kSignalled) Request();
    } while ((size == 1 && what != kQuit) || (size < 0 && errno == EINTR));
  });
  struct sigaction action {};
  action.sa_handler = OnSignal;
  action.sa_flags = SA_RESETHAND | SA_RESTART;
  MOE_CHECK(sigaction(SIGINT, &action, nullptr) == 0);
}

void Interrupt::Request() {
  absl::MutexLock lock(&mutex_);
  requested_ = true;
  for (const auto& [owner, callback] : callbacks_) callback();
}

bool Interrupt::requested() const {
  absl::MutexLock lock(&mutex_);
  return requested_;
}

bool Interrupt::WaitFor(int64_t millis) const {
  absl::MutexLock lock(&mutex_);
  return mutex_.AwaitWithTimeout(absl::Condition(&requested_), absl::Milliseconds(millis));
}

Interrupt::Callback::Callback(Interrupt* interrupt, std::function<void()> callback)
    : interrupt_(interrupt) {
  absl::MutexLock lock(&interrupt_->mutex_);
  if (interrupt_->requested_) callback();
  interrupt_->callbacks_.emplace(this, std::move(callback));
}

Interrupt::Callback::~Callback() {
  absl::MutexLock lock(&interrupt_->mutex_);
  interrupt_->callbacks_.erase(this);
}

}  // namespace moe::moectl
