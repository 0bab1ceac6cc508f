// Work on many independent items on several threads.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace moe::sampler {

// Calls work(i) once for each i below `count`, on up to `threads` threads, this one among them.
// Returns when all are done. `work` must not throw.
template <typename Work>
void ParallelFor(size_t count, int threads, const Work& work) {
  std::atomic<size_t> next{0};
  const auto run = [&] {
    for (size_t i = next++; i < count; i = next++) work(i);
  };
  std::vector<std::jthread> helpers;
  for (size_t i = 1; i < std::min(count, static_cast<size_t>(threads)); ++i) {
    helpers.emplace_back(run);
  }
  run();
}

}  // namespace moe::sampler
