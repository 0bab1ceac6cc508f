// Runs a part of a test in a process of its own: one that may be killed, or that changes what only
// a process can change.
//
// LibTorch's thread pools do not survive a fork, so a test that uses this runs all of its training
// in children.
#pragma once

#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <exception>
#include <functional>

#include "common/check.h"

namespace moe::training {

// Exit status of a child that could not set up what it needs.
inline constexpr int kChildSkipped = 77;

// The status from waitpid. The child exits with what `body` returns, with 1 where an expectation
// failed or an exception left `body`.
inline int RunInChild(const std::function<int()>& body) {
  std::fflush(nullptr);
  const pid_t pid = ::fork();
  MOE_CHECK(pid >= 0);
  if (pid == 0) {
    int status = 1;
    try {
      status = body();
    } catch (const std::exception& error) {
      std::fprintf(stderr, "child: %s\n", error.what());
    }
    std::fflush(nullptr);
    ::_exit(testing::Test::HasFailure() ? 1 : status);
  }
  int status = 0;
  MOE_CHECK(::waitpid(pid, &status, 0) == pid);
  return status;
}

}  // namespace moe::training
