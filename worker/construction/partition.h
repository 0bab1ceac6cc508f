// Which neurons of each dense FFN go to which expert: pure, no tensors.
//
// A neuron is one row of the gate and up projections and the same column of the down projection.
// Method names and seeds are part of recorded results.
#pragma once

#include <cstdint>
#include <vector>

#include "absl/status/status.h"

namespace moe::construction {

using Neurons = std::vector<int64_t>;

// All experts of a model are equally wide.
struct LayerPartition {
  // Per expert the dense neurons that it takes: ascending in the independent methods, most
  // important first in the sharing ones, both as published. Empty: the layer stays dense.
  std::vector<Neurons> experts;
  // The neurons of the shared experts, which every token passes, one after the other.
  Neurons shared;
};

struct Partition {
  std::vector<LayerPartition> layers;
};

// 0 to width - 1, less those in `taken`, which ascend.
Neurons NeuronsBut(const Neurons& taken, int64_t width);
inline Neurons AllNeurons(int64_t width) { return NeuronsBut({}, width); }

// expert_of_neuron[n] in [0, num_experts) as lists, ascending.
LayerPartition FromLabels(const std::vector<int64_t>& expert_of_neuron, int64_t num_experts);

// INVALID_ARGUMENT, with the counts that would work, where `num_experts` does not divide `width`.
absl::Status CheckSplit(int64_t width, int64_t num_experts);

// Independent-Random, the best of the paper's methods (section 3.1): every layer's neurons are
// dealt at random into `num_experts` experts of equal size. Differs from the published code, which
// never sets a seed: each layer is a Fisher-Yates shuffle of its own, a function of (seed, layer),
// so that one layer can be repeated without the others. CheckSplit must hold.
Partition IndependentRandom(int64_t num_layers, int64_t width, int64_t num_experts, uint64_t seed);
// One layer of it.
LayerPartition IndependentRandomLayer(int64_t layer, int64_t width, int64_t num_experts,
                                      uint64_t seed);

}  // namespace moe::construction
