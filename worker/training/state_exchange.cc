#include "worker/training/state_exchange.h"

#include <algorithm>
#include <utility>

#include "worker/training/ownership.h"

namespace moe::training {
namespace {

// Large enough that an operation's fixed cost does not show, small enough that the first bucket is
// under way long before the last layer is done.
constexpr int64_t kBucketElements = int64_t{4} << 20;  // 16 MiB

const char* NameOf(model::Region region) {
  return region == model::Region::kExperts ? "state-experts" : "state";
}

}  // namespace

StateExchange::StateExchange(const model::ParameterLayout& layout,
                             parallel::Communicator& communicator, int64_t timeout_ms,
                             std::function<void(int64_t layer)> on_layer_changed)
    : layout_(layout),
      on_layer_changed_(std::move(on_layer_changed)),
      is_stale_(static_cast<size_t>(layout.num_layers() + 2)) {
  for (const model::Region region : model::kRegions) {
    const auto [begin, end] = layout.RegionRange(region);
    unsent_ends_.push_back(end);
    const std::vector<int> ranks = RanksWith(region, layout, communicator);
    if (begin == end || ranks.size() == 1) continue;
    shared_.push_back({.region = region,
                       .range = {begin, end},
                       .background = std::make_unique<parallel::BackgroundCollectives>(
                           communicator.Split(NameOf(region), ranks, timeout_ms)),
                       .parameter_tickets = std::vector<int64_t>(is_stale_.size())});
  }
}

parallel::Range StateExchange::LayerIn(const Shared& shared, int64_t layer) const {
  const auto [begin, end] = layout_.LayerRange(layer, shared.region);
  return {begin - shared.range.begin, end - shared.range.begin};
}

void StateExchange::GradientsComplete(at::Tensor& gradients, int64_t layer, int64_t step,
                                      const std::function<void(parallel::Range)>& prepare) {
  for (const model::Region region : model::kRegions) {
    int64_t& unsent_end = unsent_ends_[static_cast<size_t>(region)];
    const int64_t begin = layout_.LayerRange(layer, region).begin;
    if (begin == unsent_end || (layer >= 0 && unsent_end - begin < kBucketElements)) continue;
    const parallel::Range bucket = {begin, std::exchange(unsent_end, begin)};
    prepare(bucket);
    const auto shared = std::ranges::find(shared_, region, &Shared::region);
    if (shared == shared_.end()) continue;
    const int64_t origin = shared->range.begin;
    shared->gradients_ticket = shared->background->ReduceScatterSum(
        shared->In(gradients), {bucket.begin - origin, bucket.end - origin}, step);
  }
}

void StateExchange::WaitForGradients() {
  for (const model::Region region : model::kRegions) {
    unsent_ends_[static_cast<size_t>(region)] = layout_.RegionRange(region).end;
  }
  for (Shared& shared : shared_) shared.background->Wait(shared.gradients_ticket);
}

void StateExchange::SendParameters(at::Tensor& parameters, int64_t step) {
  if (shared_.empty()) {
    for (int64_t layer = -1; layer <= layout_.num_layers(); ++layer) on_layer_changed_(layer);
    return;
  }
  for (Shared& shared : shared_) {
    int64_t begin = 0, first_layer = -1;
    for (int64_t layer = -1; layer <= layout_.num_layers(); ++layer) {
      const int64_t end = LayerIn(shared, layer).end;
      if (layer < layout_.num_layers() && end - begin < kBucketElements) continue;
      const int64_t ticket =
          shared.background->AllGather(shared.In(parameters), {begin, end}, step);
      for (; first_layer <= layer; ++first_layer) {
        shared.parameter_tickets[static_cast<size_t>(first_layer + 1)] = ticket;
      }
      begin = end;
    }
  }
  is_stale_.assign(is_stale_.size(), true);
}

void StateExchange::WaitForParameters(int64_t layer) {
  const size_t place = static_cast<size_t>(layer + 1);
  if (!is_stale_[place]) return;
  for (Shared& shared : shared_) shared.background->Wait(shared.parameter_tickets[place]);
  is_stale_[place] = false;
  on_layer_changed_(layer);
}

void StateExchange::WaitForParameters() {
  for (int64_t layer = -1; layer <= layout_.num_layers(); ++layer) WaitForParameters(layer);
}

double StateExchange::busy_seconds() const {
  double seconds = 0;
  for (const Shared& shared : shared_) seconds += shared.background->busy_seconds();
  return seconds;
}

double StateExchange::waited_seconds() const {
  double seconds = 0;
  for (const Shared& shared : shared_) seconds += shared.background->waited_seconds();
  return seconds;
}

int64_t StateExchange::sent_bytes() const {
  int64_t bytes = 0;
  for (const Shared& shared : shared_) bytes += shared.background->sent_bytes();
  return bytes;
}

}  // namespace moe::training
