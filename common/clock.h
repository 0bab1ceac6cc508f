// Time as a collaborator, so that tests and simulations decide what time it is.
#pragma once

#include <cstdint>

namespace moe {

class Clock {
 public:
  virtual ~Clock() = default;
  // Milliseconds since the Unix epoch; may jump. For records that people read.
  virtual int64_t UnixMillis() const = 0;
  // Milliseconds from an arbitrary origin; never goes back. For time-outs and durations.
  virtual int64_t MonotonicMillis() const = 0;
};

// The machine's clocks. Thread-safe.
class RealClock final : public Clock {
 public:
  int64_t UnixMillis() const override;
  int64_t MonotonicMillis() const override;
};

// Stands still until told otherwise. Not thread-safe.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(int64_t unix_millis = 1'700'000'000'000) : unix_millis_(unix_millis) {}
  int64_t UnixMillis() const override { return unix_millis_; }
  int64_t MonotonicMillis() const override { return monotonic_millis_; }
  void Advance(int64_t millis) {
    unix_millis_ += millis;
    monotonic_millis_ += millis;
  }

 private:
  int64_t unix_millis_;
  int64_t monotonic_millis_ = 0;
};

}  // namespace moe
