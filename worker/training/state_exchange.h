// What the ranks of a run exchange of gradients and parameters (ZeRO-1), beside the computation.
//
// Of each region of the arena a rank owns a range (ownership.h). While the backward pass goes on,
// the gradients of the layers it is done with go to their owners, bucket by bucket; after the
// update the owners' parameters go to all who have the region, in the order in which the next
// forward pass needs them, and each layer waits for its own alone. On a single rank nothing is sent
// and nothing waits. Every rank makes the same calls. Not thread-safe; CollectiveError where a rank
// cannot be reached.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "worker/model/parameters.h"
#include "worker/parallel/background_collectives.h"
#include "worker/parallel/communicator.h"

namespace moe::training {

class StateExchange {
 public:
  // Takes a connection of its own from `communicator` for each region that other ranks have too.
  // `on_layer_changed` is told of each layer whose parameters other ranks have changed, before
  // anything reads them. `layout` outlives this.
  StateExchange(const model::ParameterLayout& layout, parallel::Communicator& communicator,
                int64_t timeout_ms, std::function<void(int64_t layer)> on_layer_changed);

  // The gradients of `layer` and of all above it are complete on this rank. Layers come in
  // descending order, from num_layers to -1 (ParameterLayout::LayerRange). `prepare` is called for
  // each range before it is sent.
  void GradientsComplete(at::Tensor& gradients, int64_t layer, int64_t step,
                         const std::function<void(parallel::Range)>& prepare);
  // Returns when what this rank owns of the gradients holds the sum over ranks.
  void WaitForGradients();

  // The owners' parameters go to everyone.
  void SendParameters(at::Tensor& parameters, int64_t step);
  // Returns when the parameters of `layer`, or of all layers, are those of their owners.
  void WaitForParameters(int64_t layer);
  // Whether WaitForParameters(layer) may have to wait.
  bool IsUnderWay(int64_t layer) const { return is_stale_[static_cast<size_t>(layer + 1)]; }
  void WaitForParameters();

  // Since the start, in seconds: what operations took, and what of it somebody waited for.
  double busy_seconds() const;
  double waited_seconds() const;
  int64_t sent_bytes() const;

 private:
  // A region that other ranks have too. Elements are counted from its beginning.
  struct Shared {
    model::Region region;
    parallel::Range range;  // of the arena
    std::unique_ptr<parallel::BackgroundCollectives> background;
    std::vector<int64_t> parameter_tickets;  // of layers -1 to num_layers: what brings them
    int64_t gradients_ticket = 0;

    at::Tensor In(const at::Tensor& arena) const {
      return arena.narrow(0, range.begin, range.numel());
    }
  };
  // Of a layer in `shared`, counted from its beginning.
  parallel::Range LayerIn(const Shared& shared, int64_t layer) const;

  const model::ParameterLayout& layout_;
  const std::function<void(int64_t layer)> on_layer_changed_;
  std::vector<Shared> shared_;
  std::vector<bool> is_stale_;        // layers that have been sent and not been waited for
  std::vector<int64_t> unsent_ends_;  // by region: gradients from here on are complete and told of
};

}  // namespace moe::training
