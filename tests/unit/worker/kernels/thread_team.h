// A team of several threads, as a GPU has them: what a kernel forgets to share, or shares twice,
// shows on the CPU.
#pragma once

#include <array>
#include <barrier>
#include <cstdint>
#include <thread>
#include <vector>

#include "worker/kernels/device/row_kernel.h"

namespace moe::kernels::device::testing {

inline constexpr int kTeamThreads = 3;

class ThreadTeam {
 public:
  struct Shared {
    std::barrier<> barrier{kTeamThreads};
    std::array<double, kTeamThreads> values = {};
  };
  ThreadTeam(Shared& shared, int rank) : shared_(&shared), rank_(rank) {}

  int rank() const { return rank_; }
  int size() const { return kTeamThreads; }
  template <typename Number>
  Number Sum(Number value) const {
    Number sum = 0;
    Exchange(value, [&](double other) { sum += static_cast<Number>(other); });
    return sum;
  }
  float Max(float value) const {
    float max = value;
    Exchange(value, [&](double other) { max = std::max(max, static_cast<float>(other)); });
    return max;
  }

 private:
  template <typename Number, typename Body>
  void Exchange(Number value, const Body& body) const {
    shared_->values[static_cast<size_t>(rank_)] = value;
    shared_->barrier.arrive_and_wait();
    for (const double other : shared_->values) body(other);
    shared_->barrier.arrive_and_wait();
  }

  Shared* shared_;
  int rank_;
};

// Every row by a team.
template <typename T, typename Kernel>
void RunWithTeams(const Kernel& kernel) {
  ThreadTeam::Shared shared;
  std::vector<std::thread> threads;
  for (int rank = 0; rank < kTeamThreads; ++rank) {
    threads.emplace_back([&shared, &kernel, rank] {
      for (int64_t row = 0; row < kernel.rows; ++row) {
        kernel.template Row<T>(row, ThreadTeam(shared, rank));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

}  // namespace moe::kernels::device::testing
