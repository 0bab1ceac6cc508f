#include "worker/construction/partition.h"

#include <algorithm>
#include <numeric>
#include <string>
#include <utility>

#include "common/check.h"
#include "common/philox.h"
#include "common/status.h"

namespace moe::construction {
namespace {

// "2, 3, 4, 6": divisors of `width` from 2, at most the first 16 of them.
std::string ExpertCounts(int64_t width) {
  std::string text;
  int listed = 0;
  for (int64_t n = 2; n <= width; ++n) {
    if (width % n != 0) continue;
    if (++listed > 16) return text + ", ...";
    text += (text.empty() ? "" : ", ") + std::to_string(n);
  }
  return text;
}

LayerPartition ShuffleLayer(int64_t width, int64_t num_experts, PhiloxGenerator generator) {
  // labels[n] is the expert of neuron n; shuffling labels, not neurons, keeps experts ascending.
  const int64_t expert_width = width / num_experts;
  std::vector<int64_t> labels(width);
  for (int64_t n = 0; n < width; ++n) labels[n] = n / expert_width;
  for (int64_t last = width - 1; last > 0; --last) {
    std::swap(labels[last], labels[generator.Below(last + 1)]);
  }
  return FromLabels(labels, num_experts);
}

}  // namespace

Neurons NeuronsBut(const Neurons& taken, int64_t width) {
  Neurons left;
  for (int64_t n = 0; n < width; ++n) {
    if (!std::binary_search(taken.begin(), taken.end(), n)) left.push_back(n);
  }
  return left;
}

LayerPartition FromLabels(const std::vector<int64_t>& expert_of_neuron, int64_t num_experts) {
  LayerPartition layer;
  layer.experts.resize(num_experts);
  for (size_t n = 0; n < expert_of_neuron.size(); ++n) {
    layer.experts[expert_of_neuron[n]].push_back(static_cast<int64_t>(n));
  }
  return layer;
}

absl::Status CheckSplit(int64_t width, int64_t num_experts) {
  if (num_experts >= 1 && width % num_experts == 0) return absl::OkStatus();
  return InvalidArgument("num_experts={} does not divide the FFN width {}; use one of {}",
                         num_experts, width, ExpertCounts(width));
}

Partition IndependentRandom(int64_t num_layers, int64_t width, int64_t num_experts, uint64_t seed) {
  MOE_CHECK(CheckSplit(width, num_experts).ok());
  Partition partition;
  for (int64_t layer = 0; layer < num_layers; ++layer) {
    partition.layers.push_back(IndependentRandomLayer(layer, width, num_experts, seed));
  }
  return partition;
}

LayerPartition IndependentRandomLayer(int64_t layer, int64_t width, int64_t num_experts,
                                      uint64_t seed) {
  return ShuffleLayer(
      width, num_experts,
      PhiloxGenerator(seed, RandomStream::kExpertPartition, static_cast<uint32_t>(layer)));
}

}  // namespace moe::construction
