#include "worker/kernels/parallel.h"

#include <ATen/Parallel.h>

#include <algorithm>
#include <atomic>

#ifndef _OPENMP
#error "ATen's parallel_for is serial where the including file is compiled without -fopenmp"
#endif

namespace moe::kernels {

void ParallelFor(int64_t n, int64_t min_per_thread,
                 const std::function<void(int64_t, int64_t)>& body) {
  if (n > 0) at::parallel_for(0, n, min_per_thread, body);
}

void ParallelTasks(int64_t n, const std::function<void(int64_t, int64_t)>& body) {
  std::atomic<int64_t> next{0};
  at::parallel_for(0, std::min(n, NumThreads()), 1, [&](int64_t worker, int64_t) {
    for (int64_t task = next++; task < n; task = next++) body(worker, task);
  });
}

int64_t NumThreads() { return at::get_num_threads(); }

}  // namespace moe::kernels
