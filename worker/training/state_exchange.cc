#include "worker/training/state_exchange.h"

#include <utility>

namespace moe::training {
namespace {

// Large enough that an operation's fixed cost does not show, small enough that the first bucket is
// under way long before the last layer is done.
constexpr int64_t kBucketElements = int64_t{4} << 20;  // 16 MiB

}  // namespace

StateExchange::StateExchange(const model::ParameterLayout& layout,
                             parallel::Communicator& communicator, int64_t timeout_ms,
                             std::function<void(int64_t layer)> on_layer_changed)
    : layout_(layout),
      on_layer_changed_(std::move(on_layer_changed)),
      layers_(static_cast<size_t>(layout.num_layers() + 2)),
      unsent_end_(layout.arena_numel()) {
  if (communicator.world_size() == 1) return;
  background_ =
      std::make_unique<parallel::BackgroundCollectives>(communicator.Split("state", timeout_ms));
}

void StateExchange::GradientsComplete(at::Tensor& gradients, int64_t layer, int64_t step,
                                      const std::function<void(parallel::Range)>& prepare) {
  const int64_t begin = layout_.LayerRange(layer).begin;
  if (layer >= 0 && unsent_end_ - begin < kBucketElements) return;
  const parallel::Range bucket = {begin, std::exchange(unsent_end_, begin)};
  prepare(bucket);
  if (background_) gradients_ticket_ = background_->ReduceScatterSum(gradients, bucket, step);
}

void StateExchange::WaitForGradients() {
  unsent_end_ = layout_.arena_numel();
  if (background_) background_->Wait(gradients_ticket_);
}

void StateExchange::SendParameters(at::Tensor& parameters, int64_t step) {
  if (!background_) {
    for (int64_t layer = -1; layer <= layout_.num_layers(); ++layer) on_layer_changed_(layer);
    return;
  }
  int64_t begin = 0, first_layer = -1;
  for (int64_t layer = -1; layer <= layout_.num_layers(); ++layer) {
    const int64_t end = layout_.LayerRange(layer).end;
    if (layer < layout_.num_layers() && end - begin < kBucketElements) continue;
    const int64_t ticket = background_->AllGather(parameters, {begin, end}, step);
    for (; first_layer <= layer; ++first_layer) LayerAt(first_layer) = {ticket, true};
    begin = end;
  }
}

void StateExchange::WaitForParameters(int64_t layer) {
  Layer& waited = LayerAt(layer);
  if (!waited.is_stale) return;
  background_->Wait(waited.ticket);
  waited.is_stale = false;
  on_layer_changed_(layer);
}

void StateExchange::WaitForParameters() {
  for (int64_t layer = -1; layer <= layout_.num_layers(); ++layer) WaitForParameters(layer);
}

}  // namespace moe::training
