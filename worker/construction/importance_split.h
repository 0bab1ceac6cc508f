// Partitions of one layer by how important each neuron is to each group of text: pure, no tensors.
//
// scores[g][n] is the importance of neuron n to group g (importance.h); all lists are equally long.
// Where scores are equal the lower neuron comes first, which the published code leaves to its sort.
//
// Source: LLaMA-MoE (arXiv 2406.16554), sections 3.1 and 5.5, and its published code.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/construction/partition.h"

namespace moe::construction {

// Which end of the scores comes first.
enum class Criterion { kMax, kMin };

using Scores = std::vector<std::vector<float>>;

// The neurons, first in rank first.
Neurons Rank(const std::vector<float>& scores, Criterion criterion);

// independent-importance: experts take turns by whose best free neuron ranks highest, until every
// neuron has one expert of equal size; of equal heads the highest expert's goes first, as
// published. The number of lists, which is the number of experts, must divide the neurons.
LayerPartition IndependentImportance(const Scores& scores, Criterion criterion);

// sharing-inner: expert e takes the first `expert_width` neurons of its own ranking. Experts may
// overlap, and some neurons may be in none.
LayerPartition SharingInner(const Scores& scores, int64_t expert_width, Criterion criterion);

struct SharingInterOptions {
  int64_t num_shared_experts = 0;
  int64_t expert_width = 0;
  bool overlap = true;
};

// sharing-inter: neurons that are among the first `expert_width` of most rankings are collected
// into the shared experts, in rounds; each other expert then takes the first of what is left of its
// own ranking, or, without overlap, what IndependentImportance gives it. (experts + shared) x width
// must not be above the number of neurons without overlap, nor expert_width + shared x width with.
// Without overlap and with a smaller product some neurons are in none.
LayerPartition SharingInter(const Scores& scores, const SharingInterOptions& options,
                            Criterion criterion);

// prune-importance: the first `keep` neurons of one ranking, ascending.
Neurons PruneByImportance(const std::vector<float>& scores, int64_t keep, Criterion criterion);

// prune-random: `keep` of `width` neurons, ascending; a function of (seed, layer). Differs from the
// published code, which keeps the same neurons in all layers.
Neurons PruneAtRandom(int64_t width, int64_t keep, int64_t layer, uint64_t seed);

}  // namespace moe::construction
