#include "worker/construction/coactivation_split.h"

#include <fmt/format.h>
#include <metis.h>

#include <algorithm>
#include <array>
#include <limits>
#include <new>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "common/check.h"
#include "common/philox.h"

namespace moe::construction {
namespace {

// 0 where every percentile is.
float Scale(const float* pairs, int64_t count) {
  std::vector<float> sorted(pairs, pairs + count);
  auto begin = sorted.begin();
  for (int percentile = 10; percentile <= 100; percentile += 10) {
    const auto nth = sorted.begin() + (count - 1) * percentile / 100;
    std::nth_element(begin, nth, sorted.end());
    if (*nth != 0) return 0.99f * *nth;
    begin = nth;
  }
  return 0;
}

// A graph as METIS takes it: the neighbours of node i and the edges' weights are at
// [first[i], first[i + 1]).
struct Graph {
  std::vector<idx_t> first = {0}, neighbours, weights;
};

Graph BuildGraph(const float* pairs, int64_t width) {
  const float scale = Scale(pairs, width * width);
  Graph graph;
  for (int64_t i = 0; i < width; ++i) {
    for (int64_t j = 0; j < width && scale > 0; ++j) {
      const float weight = pairs[i * width + j] / scale;
      if (j == i || !(weight >= 1)) continue;
      graph.neighbours.push_back(static_cast<idx_t>(j));
      graph.weights.push_back(static_cast<idx_t>(std::min(weight, 1e6f)));
    }
    if (graph.neighbours.size() > size_t{std::numeric_limits<idx_t>::max()}) {
      throw std::length_error(fmt::format(
          "the co-activation graph of {} neurons has more edges than METIS counts", width));
    }
    graph.first.push_back(static_cast<idx_t>(graph.neighbours.size()));
  }
  // METIS adds up weights in its own integers.
  const double total = std::accumulate(graph.weights.begin(), graph.weights.end(), 0.0);
  const double most = 0.5 * std::numeric_limits<idx_t>::max();
  if (total > most) {
    for (idx_t& weight : graph.weights) {
      weight = std::max<idx_t>(1, static_cast<idx_t>(weight * (most / total)));
    }
  }
  return graph;
}

std::vector<idx_t> Cut(Graph graph, int64_t num_experts, uint64_t seed) {
  idx_t nodes = static_cast<idx_t>(graph.first.size()) - 1, constraints = 1;
  idx_t parts = static_cast<idx_t>(num_experts), edges_cut = 0;
  std::vector<idx_t> part(nodes);
  if (graph.neighbours.empty()) {
    for (idx_t n = 0; n < nodes; ++n) part[n] = static_cast<idx_t>(int64_t{n} * parts / nodes);
  }
  if (parts == 1 || graph.neighbours.empty()) return part;
  std::array<idx_t, METIS_NOPTIONS> options;
  METIS_SetDefaultOptions(options.data());
  options[METIS_OPTION_SEED] = static_cast<idx_t>(seed & 0x7fffffff);
  const int result = METIS_PartGraphKway(
      &nodes, &constraints, graph.first.data(), graph.neighbours.data(), /*vwgt=*/nullptr,
      /*vsize=*/nullptr, graph.weights.data(), &parts, /*tpwgts=*/nullptr, /*ubvec=*/nullptr,
      options.data(), &edges_cut, part.data());
  if (result == METIS_ERROR_MEMORY) throw std::bad_alloc();
  if (result != METIS_OK) {
    throw std::runtime_error(
        fmt::format("METIS could not cut a graph of {} neurons into {} parts: "
                    "error {}",
                    nodes, parts, result));
  }
  return part;
}

void Shuffle(Neurons& neurons, PhiloxGenerator& generator) {
  for (size_t last = neurons.size(); last > 1; --last) {
    std::swap(neurons[last - 1], neurons[generator.Below(last)]);
  }
}

}  // namespace

LayerPartition CoactivationSplit(const float* pairs, int64_t width, int64_t num_experts,
                                 int64_t layer, uint64_t seed) {
  MOE_CHECK(num_experts >= 1 && width % num_experts == 0);
  const std::vector<idx_t> part = Cut(BuildGraph(pairs, width), num_experts, seed);
  std::vector<Neurons> experts(num_experts);
  std::vector<int64_t> order;  // parts, by first appearance; empty ones last
  for (int64_t n = 0; n < width; ++n) {
    if (experts[part[n]].empty()) order.push_back(part[n]);
    experts[part[n]].push_back(n);
  }
  for (int64_t e = 0; e < num_experts; ++e) {
    if (experts[e].empty()) order.push_back(e);
  }

  const size_t capacity = width / num_experts;
  PhiloxGenerator generator(seed, RandomStream::kExpertPartition, static_cast<uint32_t>(layer));
  Neurons pool;
  for (const int64_t e : order) {
    if (experts[e].size() <= capacity) continue;
    Shuffle(experts[e], generator);
    pool.insert(pool.end(), experts[e].begin() + capacity, experts[e].end());
    experts[e].resize(capacity);
  }
  Shuffle(pool, generator);
  for (const int64_t e : order) {
    while (experts[e].size() < capacity) {
      experts[e].push_back(pool.back());
      pool.pop_back();
    }
    std::sort(experts[e].begin(), experts[e].end());
  }
  return {.experts = std::move(experts), .shared = {}};
}

}  // namespace moe::construction
