#include "worker/parallel/communicator.h"

#include <algorithm>
#include <numeric>
#include <vector>

namespace moe::parallel {

Range OwnedRange(int64_t numel, int rank, int world_size) {
  constexpr int64_t kAlignment = 64;
  const int64_t share = (numel + world_size - 1) / world_size;
  const int64_t chunk = (share + kAlignment - 1) / kAlignment * kAlignment;
  return {std::min(numel, chunk * rank), std::min(numel, chunk * (rank + 1))};
}

Range Intersection(Range a, Range b) {
  const int64_t begin = std::max(a.begin, b.begin);
  return {begin, std::max(begin, std::min(a.end, b.end))};
}

std::unique_ptr<Communicator> Communicator::Split(const std::string& name, int64_t timeout_ms) {
  std::vector<int> everyone(static_cast<size_t>(world_size()));
  std::iota(everyone.begin(), everyone.end(), 0);
  return Split(name, everyone, timeout_ms);
}

}  // namespace moe::parallel
