#include "worker/training/ownership.h"

#include <algorithm>

#include "common/check.h"

namespace moe::training {
namespace {

std::vector<int> EveryNth(int first, int count, int distance) {
  std::vector<int> ranks;
  for (int i = 0; i < count; ++i) ranks.push_back(first + i * distance);
  return ranks;
}

}  // namespace

model::ExpertShare ShareOf(int rank, int64_t expert_parallel) {
  return {.index = rank % expert_parallel, .count = expert_parallel};
}

std::vector<int> ExpertGroup(const model::ParameterLayout& layout,
                             const parallel::Communicator& communicator) {
  const int count = static_cast<int>(layout.share().count), rank = communicator.rank();
  MOE_CHECK(communicator.world_size() % count == 0 && layout.share().index == rank % count);
  return EveryNth(rank / count * count, count, 1);
}

std::vector<int> RanksWith(model::Region region, const model::ParameterLayout& layout,
                           const parallel::Communicator& communicator) {
  const int world_size = communicator.world_size();
  if (region == model::Region::kReplicated) return EveryNth(0, world_size, 1);
  const int count = static_cast<int>(layout.share().count);
  return EveryNth(communicator.rank() % count, world_size / count, count);
}

std::vector<parallel::Range> OwnedRanges(const model::ParameterLayout& layout,
                                         const parallel::Communicator& communicator) {
  std::vector<parallel::Range> owned;
  for (const model::Region region : model::kRegions) {
    const auto [begin, end] = layout.RegionRange(region);
    if (begin == end) continue;
    const std::vector<int> ranks = RanksWith(region, layout, communicator);
    const auto position = std::ranges::find(ranks, communicator.rank()) - ranks.begin();
    const parallel::Range range = parallel::OwnedRange(end - begin, static_cast<int>(position),
                                                       static_cast<int>(ranks.size()));
    owned.push_back({begin + range.begin, begin + range.end});
  }
  return owned;
}

int64_t TotalNumel(const std::vector<parallel::Range>& ranges) {
  int64_t numel = 0;
  for (const parallel::Range& range : ranges) numel += range.numel();
  return numel;
}

}  // namespace moe::training
