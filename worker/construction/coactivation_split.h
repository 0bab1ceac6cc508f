// The partition of a layer by which neurons are active together.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/construction/partition.h"

namespace moe::construction {

// coactivation-graph: neurons are nodes, and pairs with a weight of at least 1 after scaling are
// edges; METIS cuts the graph into `num_experts` parts of which over-full ones give neurons, drawn
// at random, to those with room, in the order in which the parts first appear. The scale is 0.99 of
// the first of the percentiles 10, 20, ... of all pairs that is not 0. `pairs` is [width, width]
// and symmetric; num_experts divides the width. A function of (pairs, seed, layer).
//
// Source: the published code of LLaMA-MoE, after MoEfication (Zhang et al. 2022); it calls gpmetis,
// whose defaults are METIS_PartGraphKway's.
LayerPartition CoactivationSplit(const float* pairs, int64_t width, int64_t num_experts,
                                 int64_t layer, uint64_t seed);

}  // namespace moe::construction
