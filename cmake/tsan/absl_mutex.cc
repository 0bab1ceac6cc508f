// Tells the thread sanitizer what absl::Mutex, CondVar and Notification order.
//
// Debian's Abseil is not instrumented, so without this every access that a mutex orders looks like
// a race. Linked into the programs of the tsan preset only, before Abseil, whose functions it
// stands in front of: acquire and release of the object's address around the real function.
//
// Abseil evaluates the conditions of waiters inside Unlock and Await, under the lock but outside of
// what is described here; reads made there are not looked at.
#include <dlfcn.h>
#include <sanitizer/tsan_interface.h>

#include <cstdint>
#include <type_traits>

extern "C" {
void AnnotateIgnoreReadsBegin(const char* file, int line);
void AnnotateIgnoreReadsEnd(const char* file, int line);
}

namespace {

// absl::Duration, passed by value.
struct Duration {
  int64_t hi;
  uint32_t lo;
};

struct IgnoreReads {
  IgnoreReads() { AnnotateIgnoreReadsBegin(__FILE__, __LINE__); }
  ~IgnoreReads() { AnnotateIgnoreReadsEnd(__FILE__, __LINE__); }
};

template <typename Function>
Function* Real(const char* symbol) {
  return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, symbol));
}

}  // namespace

#define MOE_STAND_IN(symbol, Result, ...)                       \
  extern "C" Result moe_##symbol(__VA_ARGS__) __asm__(#symbol); \
  extern "C" Result moe_##symbol(__VA_ARGS__)
#define MOE_REAL(symbol, Signature) \
  static const std::add_pointer_t<Signature> real = Real<Signature>(#symbol)

MOE_STAND_IN(_ZN4absl7debian35Mutex4LockEv, void, void* mutex) {
  MOE_REAL(_ZN4absl7debian35Mutex4LockEv, void(void*));
  real(mutex);
  __tsan_acquire(mutex);
}

MOE_STAND_IN(_ZN4absl7debian35Mutex7TryLockEv, bool, void* mutex) {
  MOE_REAL(_ZN4absl7debian35Mutex7TryLockEv, bool(void*));
  const bool locked = real(mutex);
  if (locked) __tsan_acquire(mutex);
  return locked;
}

MOE_STAND_IN(_ZN4absl7debian35Mutex6UnlockEv, void, void* mutex) {
  MOE_REAL(_ZN4absl7debian35Mutex6UnlockEv, void(void*));
  __tsan_release(mutex);
  IgnoreReads ignore;
  real(mutex);
}

MOE_STAND_IN(_ZN4absl7debian35Mutex10ReaderLockEv, void, void* mutex) {
  MOE_REAL(_ZN4absl7debian35Mutex10ReaderLockEv, void(void*));
  real(mutex);
  __tsan_acquire(mutex);
}

MOE_STAND_IN(_ZN4absl7debian35Mutex12ReaderUnlockEv, void, void* mutex) {
  MOE_REAL(_ZN4absl7debian35Mutex12ReaderUnlockEv, void(void*));
  __tsan_release(mutex);
  IgnoreReads ignore;
  real(mutex);
}

MOE_STAND_IN(_ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE, void, void* mutex,
             const void* condition) {
  MOE_REAL(_ZN4absl7debian35Mutex5AwaitERKNS0_9ConditionE, void(void*, const void*));
  __tsan_release(mutex);
  {
    IgnoreReads ignore;
    real(mutex, condition);
  }
  __tsan_acquire(mutex);
}

MOE_STAND_IN(_ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE, bool,
             void* mutex, const void* condition, Duration timeout) {
  MOE_REAL(_ZN4absl7debian35Mutex16AwaitWithTimeoutERKNS0_9ConditionENS0_8DurationE,
           bool(void*, const void*, Duration));
  __tsan_release(mutex);
  bool held;
  {
    IgnoreReads ignore;
    held = real(mutex, condition, timeout);
  }
  __tsan_acquire(mutex);
  return held;
}

MOE_STAND_IN(_ZN4absl7debian37CondVar4WaitEPNS0_5MutexE, void, void* condition, void* mutex) {
  MOE_REAL(_ZN4absl7debian37CondVar4WaitEPNS0_5MutexE, void(void*, void*));
  __tsan_release(mutex);
  {
    IgnoreReads ignore;
    real(condition, mutex);
  }
  __tsan_acquire(mutex);
}

MOE_STAND_IN(_ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE, bool,
             void* condition, void* mutex, Duration timeout) {
  MOE_REAL(_ZN4absl7debian37CondVar15WaitWithTimeoutEPNS0_5MutexENS0_8DurationE,
           bool(void*, void*, Duration));
  __tsan_release(mutex);
  bool expired;
  {
    IgnoreReads ignore;
    expired = real(condition, mutex, timeout);
  }
  __tsan_acquire(mutex);
  return expired;
}

MOE_STAND_IN(_ZN4absl7debian312Notification6NotifyEv, void, void* notification) {
  MOE_REAL(_ZN4absl7debian312Notification6NotifyEv, void(void*));
  __tsan_release(notification);
  real(notification);
}

MOE_STAND_IN(_ZNK4absl7debian312Notification19WaitForNotificationEv, void,
             const void* notification) {
  MOE_REAL(_ZNK4absl7debian312Notification19WaitForNotificationEv, void(const void*));
  real(notification);
  __tsan_acquire(const_cast<void*>(notification));
}

MOE_STAND_IN(_ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE, bool,
             const void* notification, Duration timeout) {
  MOE_REAL(_ZNK4absl7debian312Notification30WaitForNotificationWithTimeoutENS0_8DurationE,
           bool(const void*, Duration));
  const bool notified = real(notification, timeout);
  __tsan_acquire(const_cast<void*>(notification));
  return notified;
}
