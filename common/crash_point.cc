#include "common/crash_point.h"

#include <fcntl.h>

#include <atomic>
#include <csignal>
#include <cstdlib>
#include <string>

namespace moe {
namespace {

struct Armed {
  std::string name;
  std::atomic<int> passes_left{0};

  Armed() {
    const char* value = std::getenv("MOE_UNSAFE_CRASH_AT");
    if (value == nullptr) return;
    name = value;
    passes_left = 1;
    if (const size_t colon = name.find(':'); colon != std::string::npos) {
      passes_left = std::atoi(name.c_str() + colon + 1);
      name.resize(colon);
    }
  }
};

// Whether this process is the one to crash.
bool Claim() {
  const char* marker = std::getenv("MOE_UNSAFE_CRASH_ONCE");
  return marker == nullptr || ::open(marker, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644) >= 0;
}

}  // namespace

void CrashPoint(const char* name) {
  static Armed armed;
  if (armed.name == name && armed.passes_left.fetch_sub(1) == 1 && Claim()) std::raise(SIGKILL);
}

}  // namespace moe
