// What the ranks of a run exchange of gradients and parameters (ZeRO-1), beside the computation.
//
// A rank owns a range of the arena. While the backward pass goes on, the gradients of the layers it
// is done with go to their owners, bucket by bucket; after the update the owners' parameters go to
// everyone in the order in which the next forward pass needs them, and each layer waits for its own
// alone. On a single rank nothing is sent and nothing waits. Every rank makes the same calls. Not
// thread-safe; CollectiveError where a rank cannot be reached.
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
  // Takes a connection of its own from `communicator` where there is more than one rank.
  // `on_layer_changed` is told of each layer whose parameters other ranks have changed, before
  // anything reads them. `layout` outlives this.
  StateExchange(const model::ParameterLayout& layout, parallel::Communicator& communicator,
                int64_t timeout_ms, std::function<void(int64_t layer)> on_layer_changed);

  // The gradients of `layer` and of all above it are complete on this rank. Layers come in
  // descending order, from num_layers to -1 (ParameterLayout::LayerRange). `prepare` is called for
  // each range before it is sent.
  void GradientsComplete(at::Tensor& gradients, int64_t layer, int64_t step,
                         const std::function<void(parallel::Range)>& prepare);
  // Returns when this rank's range of the gradients holds the sum over ranks.
  void WaitForGradients();

  // The owners' parameters go to everyone.
  void SendParameters(at::Tensor& parameters, int64_t step);
  // Returns when the parameters of `layer`, or of all layers, are those of their owners.
  void WaitForParameters(int64_t layer);
  // Whether WaitForParameters(layer) may have to wait.
  bool IsUnderWay(int64_t layer) const { return layers_[static_cast<size_t>(layer + 1)].is_stale; }
  void WaitForParameters();

  // Since the start, in seconds: what operations took, and what of it somebody waited for.
  double busy_seconds() const { return background_ ? background_->busy_seconds() : 0.0; }
  double waited_seconds() const { return background_ ? background_->waited_seconds() : 0.0; }
  int64_t sent_bytes() const { return background_ ? background_->sent_bytes() : 0; }

 private:
  // From -1 to num_layers.
  struct Layer {
    int64_t ticket = 0;     // of the operation that brings its parameters
    bool is_stale = false;  // they have been sent and not been waited for
  };
  Layer& LayerAt(int64_t layer) { return layers_[static_cast<size_t>(layer + 1)]; }

  const model::ParameterLayout& layout_;
  const std::function<void(int64_t layer)> on_layer_changed_;
  std::unique_ptr<parallel::BackgroundCollectives> background_;  // nullptr on a single rank
  std::vector<Layer> layers_;
  int64_t unsent_end_ = 0;  // gradients from here on have been sent
  int64_t gradients_ticket_ = 0;
};

}  // namespace moe::training
