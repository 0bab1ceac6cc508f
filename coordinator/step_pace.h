// Whether a run still moves: how long its steps took, and how long it may be silent after one.
// Pure.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <vector>

namespace moe::coordinator {

class StepPace {
 public:
  // A step of so many seconds was reported; times are monotonic.
  void OnStep(double step_seconds, int64_t now_millis);
  // A run that was taken up while it ran: its newest step stands for those before. 0: there was
  // none.
  void Continue(double step_seconds, int64_t now_millis);
  // Something else moved that takes time of its own: a checkpoint, losses on held-out text. The
  // silence before it was no standstill.
  void OnOther(int64_t now_millis) {
    if (last_millis_.has_value()) last_millis_ = now_millis;
  }
  // When the run counts as hung, unless something is reported before; nullopt until there is a
  // measure.
  std::optional<int64_t> DeadlineMillis() const;
  double MedianSeconds() const;
  // Of the newest report.
  std::optional<int64_t> last_millis() const { return last_millis_; }

 private:
  static constexpr size_t kSteps = 31;
  std::vector<double> seconds_;  // of the newest steps, a ring
  size_t next_ = 0;
  std::optional<int64_t> last_millis_;
};

}  // namespace moe::coordinator
