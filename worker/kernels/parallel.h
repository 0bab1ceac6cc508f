// Threads: one pool, the OpenMP one that LibTorch's GEMMs use.
#pragma once

#include <cstdint>
#include <functional>

namespace moe::kernels {

// Runs body(begin, end) on disjoint ranges that cover [0, n), at most one range per thread, each of
// at least `min_per_thread` where n allows. Which thread gets which range depends on the number of
// threads only, so a body that writes nothing but its own range gives the same bits every time.
// The number of threads is at::set_num_threads()'s.
void ParallelFor(int64_t n, int64_t min_per_thread,
                 const std::function<void(int64_t, int64_t)>& body);

// Runs body(worker, task) once for every task in [0, n), each thread taking the next task when it
// is done with the last; worker, below NumThreads(), tells the threads apart. For a few tasks of
// uneven size. Which thread runs a task varies: results must not depend on it. GEMMs inside use one
// thread.
void ParallelTasks(int64_t n, const std::function<void(int64_t, int64_t)>& body);

int64_t NumThreads();

}  // namespace moe::kernels
