#include "worker/kernels/parallel.h"

#include <ATen/Parallel.h>

#ifndef _OPENMP
#error "ATen's parallel_for is serial where the including file is compiled without -fopenmp"
#endif

namespace moe::kernels {

void ParallelFor(int64_t n, int64_t min_per_thread,
                 const std::function<void(int64_t, int64_t)>& body) {
  if (n > 0) at::parallel_for(0, n, min_per_thread, body);
}

}  // namespace moe::kernels
