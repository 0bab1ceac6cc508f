#include "worker/construction/importance_split.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/check.h"
#include "common/philox.h"

namespace moe::construction {
namespace {

// Whether score `a` comes before score `b`.
bool Before(float a, float b, Criterion criterion) {
  return criterion == Criterion::kMax ? a > b : a < b;
}

std::vector<Neurons> RankAll(const Scores& scores, Criterion criterion) {
  std::vector<Neurons> rankings;
  for (const std::vector<float>& group : scores) rankings.push_back(Rank(group, criterion));
  return rankings;
}

// Deals the neurons that are not `taken` to one expert per ranking, `width` to each.
std::vector<Neurons> DealByRank(const Scores& scores, const std::vector<Neurons>& rankings,
                                std::vector<bool> taken, int64_t width, Criterion criterion) {
  const size_t num_experts = rankings.size();
  std::vector<Neurons> experts(num_experts);
  std::vector<size_t> cursor(num_experts);
  for (int64_t dealt = 0; dealt < width * static_cast<int64_t>(num_experts); ++dealt) {
    size_t best = num_experts;
    float best_score = 0;
    for (size_t e = 0; e < num_experts; ++e) {
      if (static_cast<int64_t>(experts[e].size()) == width) continue;
      while (taken[rankings[e][cursor[e]]]) ++cursor[e];
      const float score = scores[e][rankings[e][cursor[e]]];
      if (best == num_experts || !Before(best_score, score, criterion)) {
        best = e;
        best_score = score;
      }
    }
    const int64_t neuron = rankings[best][cursor[best]];
    taken[neuron] = true;
    experts[best].push_back(neuron);
  }
  return experts;
}

// The neurons of the shared experts, in the order of their collection.
Neurons CollectShared(const std::vector<Neurons>& rankings, int64_t expert_width, int64_t count,
                      std::vector<bool>& taken) {
  const size_t width = taken.size();
  Neurons collected;
  while (static_cast<int64_t>(collected.size()) < count) {
    std::vector<int64_t> votes(width);
    for (const Neurons& ranking : rankings) {
      int64_t room = expert_width;
      for (size_t i = 0; i < ranking.size() && room > 0; ++i) {
        if (taken[ranking[i]]) continue;
        ++votes[ranking[i]];
        --room;
      }
    }
    const int64_t most = *std::max_element(votes.begin(), votes.end());
    MOE_CHECK(most > 0);
    for (size_t n = 0; n < width && static_cast<int64_t>(collected.size()) < count; ++n) {
      if (votes[n] != most) continue;
      taken[n] = true;
      collected.push_back(static_cast<int64_t>(n));
    }
  }
  return collected;
}

}  // namespace

Neurons Rank(const std::vector<float>& scores, Criterion criterion) {
  Neurons ranking(scores.size());
  std::iota(ranking.begin(), ranking.end(), 0);
  std::stable_sort(ranking.begin(), ranking.end(),
                   [&](int64_t a, int64_t b) { return Before(scores[a], scores[b], criterion); });
  return ranking;
}

LayerPartition IndependentImportance(const Scores& scores, Criterion criterion) {
  MOE_CHECK(!scores.empty() && scores[0].size() % scores.size() == 0);
  const int64_t width = static_cast<int64_t>(scores[0].size() / scores.size());
  LayerPartition layer;
  layer.experts = DealByRank(scores, RankAll(scores, criterion),
                             std::vector<bool>(scores[0].size()), width, criterion);
  for (Neurons& expert : layer.experts) std::sort(expert.begin(), expert.end());
  return layer;
}

LayerPartition SharingInner(const Scores& scores, int64_t expert_width, Criterion criterion) {
  LayerPartition layer;
  layer.experts = RankAll(scores, criterion);
  for (Neurons& expert : layer.experts) {
    MOE_CHECK(expert_width >= 1 && expert_width <= static_cast<int64_t>(expert.size()));
    expert.resize(expert_width);
  }
  return layer;
}

LayerPartition SharingInter(const Scores& scores, const SharingInterOptions& options,
                            Criterion criterion) {
  MOE_CHECK(!scores.empty());
  const int64_t neurons = static_cast<int64_t>(scores[0].size()), width = options.expert_width;
  const int64_t num_shared = options.num_shared_experts * width;
  const int64_t num_experts = static_cast<int64_t>(scores.size());
  MOE_CHECK(num_shared + (options.overlap ? 1 : num_experts) * width <= neurons);

  const std::vector<Neurons> rankings = RankAll(scores, criterion);
  std::vector<bool> taken(neurons);
  LayerPartition layer;
  layer.shared = CollectShared(rankings, width, num_shared, taken);
  if (!options.overlap) {
    layer.experts = DealByRank(scores, rankings, taken, width, criterion);
    return layer;
  }
  for (const Neurons& ranking : rankings) {
    Neurons& expert = layer.experts.emplace_back();
    for (size_t i = 0; static_cast<int64_t>(expert.size()) < width; ++i) {
      if (!taken[ranking[i]]) expert.push_back(ranking[i]);
    }
  }
  return layer;
}

Neurons PruneByImportance(const std::vector<float>& scores, int64_t keep, Criterion criterion) {
  MOE_CHECK(keep >= 1 && keep <= static_cast<int64_t>(scores.size()));
  Neurons kept = Rank(scores, criterion);
  kept.resize(keep);
  std::sort(kept.begin(), kept.end());
  return kept;
}

Neurons PruneAtRandom(int64_t width, int64_t keep, int64_t layer, uint64_t seed) {
  MOE_CHECK(keep >= 1 && keep <= width);
  PhiloxGenerator generator(seed, RandomStream::kExpertPartition, static_cast<uint32_t>(layer));
  Neurons neurons(width);
  std::iota(neurons.begin(), neurons.end(), 0);
  for (int64_t i = 0; i < keep; ++i) {
    std::swap(neurons[i], neurons[i + static_cast<int64_t>(generator.Below(width - i))]);
  }
  neurons.resize(keep);
  std::sort(neurons.begin(), neurons.end());
  return neurons;
}

}  // namespace moe::construction
