#include "worker/model/switch_gate.h"

#include <algorithm>
#include <cmath>

#include "worker/kernels/parallel.h"

namespace moe::model {
namespace {

constexpr int64_t kMinTokensPerThread = 64;

// The value of a Gumbel(0, 1) draw that is as probable as the standard normal one.
float GumbelOf(float normal) {
  constexpr double kLeast = 1e-30;  // the logarithm of 0 is not a draw
  // P(X > normal), without the rounding of 1 - P where that is small.
  const double above = 0.5 * std::erfc(normal * 0.70710678118654752);
  return static_cast<float>(-std::log(std::max(-std::log1p(-above), kLeast)));
}

// softmax of one token's logits.
void Softmax(const float* logits, int64_t N, float* out) {
  const float largest = *std::max_element(logits, logits + N);
  float sum = 0;
  for (int64_t e = 0; e < N; ++e) sum += out[e] = std::exp(logits[e] - largest);
  for (int64_t e = 0; e < N; ++e) out[e] /= sum;
}

// Takes an expert from its tokens with the lowest scores, down to its capacity.
void DropAbove(int64_t capacity, GateResult& result) {
  std::vector<std::vector<int32_t>> tokens_of(result.routed.size());
  for (int32_t t = 0; t < result.tokens; ++t) tokens_of[result.indices[t]].push_back(t);
  for (std::vector<int32_t>& tokens : tokens_of) {
    if (std::ssize(tokens) <= capacity) continue;
    std::stable_sort(tokens.begin(), tokens.end(),
                     [&](int32_t a, int32_t b) { return result.scores[a] > result.scores[b]; });
    for (size_t i = capacity; i < tokens.size(); ++i) {
      result.indices[tokens[i]] = kNoExpert;
      result.scores[tokens[i]] = 0;
    }
  }
}

}  // namespace

int64_t SwitchCapacity(const artefacts::MoeConfig& config, int64_t tokens) {
  if (config.capacity_factor == 0) return tokens;
  const double equal_share = static_cast<double>(tokens) / static_cast<double>(config.num_experts);
  return static_cast<int64_t>(
      std::clamp(config.capacity_factor * equal_share, 1.0, static_cast<double>(tokens)));
}

void SwitchForward(const artefacts::MoeConfig& config, const float* standard_normal_TN,
                   GateResult& result) {
  const int64_t T = result.tokens, N = config.num_experts;
  result.indices.resize(T);
  result.scores.resize(T);
  result.noise.clear();
  result.raw_sigma.clear();
  result.runner_up.clear();
  result.probabilities.resize(T * N);
  kernels::ParallelFor(T, kMinTokensPerThread, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float* g = result.logits.data() + t * N;
      Softmax(g, N, result.probabilities.data() + t * N);
      int32_t best = 0;
      float best_z = -INFINITY;
      for (int32_t e = 0; e < N; ++e) {
        const float z =
            standard_normal_TN == nullptr ? g[e] : g[e] + GumbelOf(standard_normal_TN[t * N + e]);
        if (z > best_z) best = e, best_z = z;
      }
      result.indices[t] = best;
      result.scores[t] = best_z;
    }
  });

  const double share = 1.0 / static_cast<double>(T);
  result.importance.assign(N, 0.0);
  result.load.assign(N, 0.0);
  result.routed.assign(N, 0);
  for (int64_t t = 0; t < T; ++t) {
    ++result.routed[result.indices[t]];
    for (int64_t e = 0; e < N; ++e) {
      result.importance[e] += share * result.probabilities[t * N + e];
    }
  }
  double balance = 0;
  for (int64_t e = 0; e < N; ++e) {
    result.load[e] = share * static_cast<double>(result.routed[e]);
    balance += result.importance[e] * result.load[e];
  }
  result.balance_loss = config.balance_loss_weight * static_cast<double>(N) * balance;
  DropAbove(SwitchCapacity(config, T), result);
}

void SwitchBackward(const GateResult& result, const float* dscores_T, double balance_weight,
                    std::vector<float>& dlogits_TN) {
  const int64_t T = result.tokens, N = std::ssize(result.load);
  const double by_probability = balance_weight * static_cast<double>(N) / static_cast<double>(T);
  kernels::ParallelFor(T, kMinTokensPerThread, [&](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const float* p = result.probabilities.data() + t * N;
      float* dg = dlogits_TN.data() + t * N;
      double mean_load = 0;
      for (int64_t e = 0; e < N; ++e) mean_load += p[e] * result.load[e];
      for (int64_t e = 0; e < N; ++e) {
        dg[e] = static_cast<float>(by_probability * p[e] * (result.load[e] - mean_load));
      }
      if (result.indices[t] != kNoExpert) dg[result.indices[t]] += dscores_T[t];
    }
  });
}

}  // namespace moe::model
