// MOE_CHECK: broken invariants of ours end the process with a message. Never for outside input.
#pragma once

#include <cstdio>
#include <cstdlib>

#define MOE_CHECK(condition)                                                                 \
  do {                                                                                       \
    if (!(condition)) [[unlikely]] {                                                         \
      std::fprintf(stderr, "%s:%d: invariant broken: %s\n", __FILE__, __LINE__, #condition); \
      std::abort();                                                                          \
    }                                                                                        \
  } while (false)
