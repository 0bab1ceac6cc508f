// What an account has used of late: slot-seconds that count half after each half-life.
#pragma once

#include <algorithm>
#include <cmath>

namespace moe::coordinator {

class DecayedUsage {
 public:
  explicit DecayedUsage(double half_life_seconds = 7 * 86400.0)
      : half_life_seconds_(half_life_seconds) {}

  // `slots` were held from `from_seconds` to `to_seconds`, not earlier than any call before.
  void Hold(double slots, double from_seconds, double to_seconds) {
    value_ = At(to_seconds) + slots * Integral(to_seconds - from_seconds);
    at_seconds_ = to_seconds;
  }
  // Adds what another account has used.
  void Merge(const DecayedUsage& other) {
    const double at_seconds = std::max(at_seconds_, other.at_seconds_);
    value_ = At(at_seconds) + other.At(at_seconds);
    at_seconds_ = at_seconds;
  }
  double At(double now_seconds) const {
    return value_ * std::exp2(-(now_seconds - at_seconds_) / half_life_seconds_);
  }

 private:
  // Of the decay from now back over `seconds`.
  double Integral(double seconds) const {
    const double rate = std::log(2.0) / half_life_seconds_;
    return -std::expm1(-rate * seconds) / rate;
  }

  double half_life_seconds_;
  double value_ = 0;  // at at_seconds_
  double at_seconds_ = 0;
};

}  // namespace moe::coordinator
