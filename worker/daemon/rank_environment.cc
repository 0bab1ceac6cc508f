#include "worker/daemon/rank_environment.h"

#include <unistd.h>

#include <algorithm>
#include <array>
#include <string_view>

namespace moe::worker {
namespace {

constexpr std::array<std::string_view, 10> kInheritedNames = {
    "PATH",         "HOME",        "USER", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH",
    "ASAN_OPTIONS", "TSAN_OPTIONS"};
constexpr std::array<std::string_view, 5> kInheritedPrefixes = {"CUDA_", "NCCL_", "GLOO_",
                                                                "MOE_CACHE_", "MOE_UNSAFE_"};
constexpr std::array<std::string_view, 3> kThreadNames = {"OMP_NUM_THREADS", "MKL_NUM_THREADS",
                                                          "OPENBLAS_NUM_THREADS"};

bool IsInherited(std::string_view variable) {
  const std::string_view name = variable.substr(0, variable.find('='));
  return std::find(kInheritedNames.begin(), kInheritedNames.end(), name) != kInheritedNames.end() ||
         std::any_of(kInheritedPrefixes.begin(), kInheritedPrefixes.end(),
                     [name](std::string_view prefix) { return name.starts_with(prefix); });
}

}  // namespace

std::vector<std::string> RankEnvironment(int threads) {
  std::vector<std::string> environment;
  for (char** variable = ::environ; *variable != nullptr; ++variable) {
    if (IsInherited(*variable)) environment.emplace_back(*variable);
  }
  for (const std::string_view name : kThreadNames) {
    environment.push_back(std::string(name) + "=" + std::to_string(threads));
  }
  // libgomp's threads spin for some milliseconds at the end of every parallel region. On a machine
  // that runs anything else they spin against the thread they wait for, and a step takes many times
  // as long; this many turns is some microseconds, which costs a quiet machine nothing.
  environment.emplace_back("GOMP_SPINCOUNT=2000");
  return environment;
}

}  // namespace moe::worker
