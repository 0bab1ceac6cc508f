#include "tests/simulation/world.h"

#include <fmt/core.h>

namespace moe::simulation {

void History::Add(int64_t now, const std::string& line) {
  for (const char c : fmt::format("{} {}\n", now, line)) {
    hash_ = (hash_ ^ static_cast<uint8_t>(c)) * 1099511628211u;
  }
  ++lines_;
  if (print_) fmt::print("{:>9.3f} {}\n", static_cast<double>(now) / 1000.0, line);
}

}  // namespace moe::simulation
