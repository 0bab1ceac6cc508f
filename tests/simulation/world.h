// What everything in a simulation shares: time, chance, the history, and the first broken promise.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <queue>
#include <string>
#include <utility>
#include <vector>

#include "common/clock.h"
#include "common/philox.h"
#include "tests/simulation/planted_bugs.h"

namespace moe::simulation {

// Draws from one stream of a seed.
class Random {
 public:
  explicit Random(uint64_t seed, uint32_t stream = 0) : seed_(seed), stream_(stream) {}

  uint64_t Next() {
    const auto words = Philox(seed_, RandomStream::kTest, stream_, index_++);
    return uint64_t{words[0]} << 32 | words[1];
  }
  // Both bounds included.
  int64_t Between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(Next() % static_cast<uint64_t>(high - low + 1));
  }
  bool OneIn(int64_t n) { return Between(1, n) == 1; }
  template <typename Container>
  auto& Pick(Container& container) {
    return container[static_cast<size_t>(Between(0, static_cast<int64_t>(container.size()) - 1))];
  }

 private:
  const uint64_t seed_;
  const uint32_t stream_;
  uint64_t index_ = 0;
};

// Events in the order of their time; those of one moment in the order in which they were planned.
class Timeline {
 public:
  int64_t now() const { return now_; }
  void After(int64_t millis, std::function<void()> event) {
    events_.push({now_ + millis, planned_++, std::move(event)});
  }
  // False where nothing is planned.
  bool RunNext() {
    if (events_.empty()) return false;
    const Event event = events_.top();
    events_.pop();
    now_ = event.at;
    event.run();
    return true;
  }

 private:
  struct Event {
    int64_t at;
    uint64_t order;
    std::function<void()> run;
    bool operator<(const Event& other) const {  // the earliest is the greatest
      return std::pair(at, order) > std::pair(other.at, other.order);
    }
  };
  int64_t now_ = 0;
  uint64_t planned_ = 0;
  std::priority_queue<Event> events_;
};

// Everything that happened, as a hash, and line by line where it is wanted.
class History {
 public:
  explicit History(bool print) : print_(print) {}
  void Add(int64_t now, const std::string& line);
  uint64_t hash() const { return hash_; }
  int64_t lines() const { return lines_; }

 private:
  const bool print_;
  uint64_t hash_ = 14695981039346656037u;
  int64_t lines_ = 0;
};

struct World {
  World(uint64_t seed, PlantedBug bug, bool print) : random(seed), history(print), bug(bug) {}

  template <typename... Args>
  void Note(fmt::format_string<Args...> format, Args&&... args) {
    history.Add(time.now(), fmt::format(format, std::forward<Args>(args)...));
  }
  // A promise was broken: the simulation ends.
  template <typename... Args>
  void Violate(fmt::format_string<Args...> format, Args&&... args) {
    const std::string what = fmt::format(format, std::forward<Args>(args)...);
    Note("VIOLATION: {}", what);
    if (!violation.has_value()) violation = what;
  }
  bool Has(PlantedBug which) const { return bug == which; }

  // Names things in the order in which they came to be, which addresses do not.
  int64_t NextId() { return ++last_id_; }

  Timeline time;
  Random random;
  History history;
  const PlantedBug bug;
  std::optional<std::string> violation;

 private:
  int64_t last_id_ = 0;
};

// The clocks of one machine: neither agrees with another's, and the wall clock jumps.
class MachineClock final : public Clock {
 public:
  MachineClock(const Timeline* time, int64_t monotonic_offset, bool monotonic_jumps = false)
      : time_(time), monotonic_offset_(monotonic_offset), monotonic_jumps_(monotonic_jumps) {}
  int64_t UnixMillis() const override { return 1'700'000'000'000 + jumped_ + time_->now(); }
  int64_t MonotonicMillis() const override {
    return monotonic_offset_ + time_->now() + (monotonic_jumps_ ? jumped_ : 0);
  }
  void Jump(int64_t millis) { jumped_ += millis; }

 private:
  const Timeline* const time_;
  const int64_t monotonic_offset_;
  const bool monotonic_jumps_;  // a planted bug
  int64_t jumped_ = 0;
};

}  // namespace moe::simulation
