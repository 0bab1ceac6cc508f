#include "coordinator/step_pace.h"

#include <algorithm>

namespace moe::coordinator {
namespace {

// Silence beyond so many median steps and so many seconds is a standstill. A hung rank is to be
// replaced within 10 steps and 5 seconds; the rest of that is for killing it.
constexpr double kSilentSteps = 8;
constexpr double kSilentSeconds = 3;
// The first steps are no measure: they wait for memory and compiled kernels.
constexpr size_t kFewestSteps = 3;

}  // namespace

void StepPace::OnStep(double step_seconds, int64_t now_millis) {
  if (seconds_.size() < kSteps) {
    seconds_.push_back(step_seconds);
  } else {
    seconds_[next_] = step_seconds;
  }
  next_ = (next_ + 1) % kSteps;
  last_millis_ = now_millis;
}

void StepPace::Continue(double step_seconds, int64_t now_millis) {
  if (step_seconds <= 0) return;
  seconds_.assign(kFewestSteps, step_seconds);
  next_ = kFewestSteps;
  last_millis_ = now_millis;
}

double StepPace::MedianSeconds() const {
  if (seconds_.empty()) return 0;
  std::vector<double> sorted = seconds_;
  const auto middle = sorted.begin() + static_cast<std::ptrdiff_t>(sorted.size() / 2);
  std::nth_element(sorted.begin(), middle, sorted.end());
  return *middle;
}

std::optional<int64_t> StepPace::DeadlineMillis() const {
  if (seconds_.size() < kFewestSteps) return std::nullopt;
  const double silence = kSilentSteps * MedianSeconds() + kSilentSeconds;
  return *last_millis_ + static_cast<int64_t>(silence * 1000);
}

}  // namespace moe::coordinator
