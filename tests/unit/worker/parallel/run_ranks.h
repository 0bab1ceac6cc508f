// Runs a body once per rank, each on a thread of its own with a connected communicator.
#pragma once

#include <exception>
#include <functional>
#include <thread>
#include <vector>

#include "tests/unit/worker/parallel/in_memory_rendezvous.h"
#include "worker/parallel/gloo_communicator.h"

namespace moe::parallel {

// Rethrows the exception of the lowest rank that threw.
inline void RunRanks(int world_size, int64_t timeout_ms,
                     const std::function<void(Communicator&)>& body) {
  InMemoryRendezvous rendezvous;
  std::vector<std::exception_ptr> errors(static_cast<size_t>(world_size));
  std::vector<std::thread> threads;
  for (int rank = 0; rank < world_size; ++rank) {
    threads.emplace_back([&, rank] {
      try {
        GlooCommunicator communicator(
            {.rank = rank, .world_size = world_size, .timeout_ms = timeout_ms}, rendezvous);
        body(communicator);
      } catch (...) {
        errors[static_cast<size_t>(rank)] = std::current_exception();
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::exception_ptr& error : errors) {
    if (error) std::rethrow_exception(error);
  }
}

}  // namespace moe::parallel
