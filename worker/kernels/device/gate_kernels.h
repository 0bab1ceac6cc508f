// The noisy top-k gate of each token, on logits that are there (worker/model/gate.h has the
// formulas), and its balance loss. A thread of a GPU has a token: experts are few.
//
// T tokens, N experts, k of them per token, K = min(k + 1, N). Everything in fp32, sums over tokens
// in fp64.
#pragma once

#include "common/philox.h"
#include "worker/kernels/device/row_kernel.h"

namespace moe::kernels::device {

MOE_HOST_DEVICE inline float SigmoidOf(float x) { return 1.0f / (1.0f + expf(-x)); }
MOE_HOST_DEVICE inline float SoftplusOf(float x) { return x > 20.0f ? x : log1pf(expf(x)); }
MOE_HOST_DEVICE inline float NormalCdfOf(float u) { return 0.5f * (1.0f + erff(u * 0.707106781f)); }
MOE_HOST_DEVICE inline float NormalDensityOf(float u) { return 0.398942280f * expf(-0.5f * u * u); }

// Standard normal draws, as DrawGateNoise of worker/model/gate.h numbers them.
struct DrawNoise {
  static constexpr int kThreads = 1;
  int64_t rows;  // T
  int32_t num_experts;
  uint64_t seed;
  uint32_t layer;
  int64_t first_sample;
  const int32_t *samples, *positions;  // [T], of each token
  float* noise;                        // [T, N]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t token, const Team&) const {
    const auto sample = static_cast<uint64_t>(first_sample + samples[token]);
    const auto position = static_cast<uint64_t>(positions[token]);
    for (int32_t e = 0; e < num_experts; e += 4) {
      const uint64_t index = sample << 24 | position << 6 | static_cast<uint64_t>(e / 4);
      const auto normal = Normal4(Philox(seed, RandomStream::kGateNoise, layer, index));
      for (int32_t i = 0; i < 4 && e + i < num_experts; ++i) {
        noise[token * num_experts + e + i] = normal[static_cast<size_t>(i)];
      }
    }
  }
};

// What decides whether an expert is in, for the estimate of its load.
enum class LoadTest { kNoisyLogit, kNoise };

struct GateForward {
  static constexpr int kThreads = 1;
  int64_t rows;  // T
  int32_t num_experts, top_k;
  LoadTest load_test;
  float epsilon;
  const float* logits;     // [T, N]
  const float* noise;      // [T, N] draws, or null for a pass without noise
  const float* raw_sigma;  // [T, N]; softplus makes it the noise's size
  float* z;                // [T, N]
  int32_t* order;          // [T, K]: the experts with the largest z, the largest first
  float* scores;           // [T, k]
  float* expert_scores;    // [T, N]: the same by expert, 0 where it was not chosen
  float* load;             // [T, N]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t token, const Team&) const {
    const int32_t N = num_experts, wanted = top_k < N ? top_k + 1 : N;
    const float* g = logits + token * N;
    float* token_z = z + token * N;
    for (int32_t e = 0; e < N; ++e) {
      token_z[e] = g[e];
      if (noise != nullptr) token_z[e] += noise[token * N + e] * Sigma(token, e);
    }
    int32_t* chosen = order + token * wanted;
    for (int32_t j = 0; j < wanted; ++j) chosen[j] = NextLargest(token_z, chosen, j);

    float* token_scores = scores + token * top_k;
    float sum = 0;
    for (int32_t j = 0; j < top_k; ++j) {
      token_scores[j] = expf(token_z[chosen[j]] - token_z[chosen[0]]);
      sum += token_scores[j];
    }
    for (int32_t e = 0; e < N; ++e) expert_scores[token * N + e] = load[token * N + e] = 0;
    for (int32_t j = 0; j < top_k; ++j) {
      token_scores[j] /= sum;
      expert_scores[token * N + chosen[j]] = token_scores[j];
      load[token * N + chosen[j]] = token_scores[j] > 0 ? 1.0f : 0.0f;
    }
    if (noise == nullptr || top_k == N) return;
    const float last_in = token_z[chosen[top_k - 1]], runner_up = token_z[chosen[top_k]];
    for (int32_t e = 0; e < N; ++e) {
      const float threshold = Tested(token, e) > runner_up ? runner_up : last_in;
      load[token * N + e] = NormalCdfOf((g[e] - threshold) / Sigma(token, e));
    }
  }

  MOE_HOST_DEVICE float Sigma(int64_t token, int32_t e) const {
    return SoftplusOf(raw_sigma[token * num_experts + e]) + epsilon;
  }
  MOE_HOST_DEVICE float Tested(int64_t token, int32_t e) const {
    return load_test == LoadTest::kNoise ? noise[token * num_experts + e] * Sigma(token, e)
                                         : z[token * num_experts + e];
  }
  // The one that follows the first j of `chosen`: ties go to the lower expert. j where there is
  // none, which is where values are not numbers.
  MOE_HOST_DEVICE int32_t NextLargest(const float* token_z, const int32_t* chosen,
                                      int32_t j) const {
    int32_t best = -1;
    for (int32_t e = 0; e < num_experts; ++e) {
      if (j > 0) {
        const int32_t last = chosen[j - 1];
        const bool follows =
            token_z[e] < token_z[last] || (token_z[e] == token_z[last] && e > last);
        if (!follows) continue;
      }
      if (best < 0 || token_z[e] > token_z[best]) best = e;
    }
    return best < 0 ? j : best;
  }
};

// From the gradients by scores and by the balance loss to those by the logits and raw_sigma.
struct GateBackward {
  static constexpr int kThreads = 1;
  GateForward forward;       // as it was; its outputs are read
  int64_t rows;              // T
  float balance_scale;       // the gradient by the balance loss
  const float* dscores;      // [T, k], through the experts
  const float* dimportance;  // [N], of the balance loss
  const float* dload;        // [N], of the balance loss
  float* dlogits;            // [T, N]
  float* draw_sigma;         // [T, N]; null for a pass without noise

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t token, const Team&) const {
    const int32_t N = forward.num_experts, k = forward.top_k;
    const int32_t* chosen = forward.order + token * (k < N ? k + 1 : N);
    const float *scores = forward.scores + token * k, *by_score = dscores + token * k;
    const float* z = forward.z + token * N;
    const bool has_noise = forward.noise != nullptr, smooth_load = has_noise && k < N;

    float dot = 0;
    for (int32_t j = 0; j < k; ++j) dot += ByScore(by_score[j], chosen[j]) * scores[j];
    const float last_in = z[chosen[k - 1]], runner_up = smooth_load ? z[chosen[k]] : 0.0f;
    float by_last_in = 0, by_runner_up = 0;
    if (smooth_load) {
      for (int32_t e = 0; e < N; ++e) {
        const bool is_in = forward.Tested(token, e) > runner_up;
        const float du = LoadGradient(token, e, is_in ? runner_up : last_in).by_logit;
        (is_in ? by_runner_up : by_last_in) -= du;
      }
    }
    for (int32_t e = 0; e < N; ++e) {
      float dz = 0;
      for (int32_t j = 0; j < k; ++j) {
        if (chosen[j] == e) dz += scores[j] * (ByScore(by_score[j], e) - dot);
      }
      ByLoad load = {};
      if (smooth_load) {
        if (e == chosen[k - 1]) dz += by_last_in;
        if (e == chosen[k]) dz += by_runner_up;
        load = LoadGradient(token, e, forward.Tested(token, e) > runner_up ? runner_up : last_in);
      }
      dlogits[token * N + e] = load.by_logit + dz;
      if (!has_noise) continue;
      draw_sigma[token * N + e] = (load.by_sigma + dz * forward.noise[token * N + e]) *
                                  SigmoidOf(forward.raw_sigma[token * N + e]);
    }
  }

  struct ByLoad {
    float by_logit = 0, by_sigma = 0;
  };
  MOE_HOST_DEVICE float ByScore(float through_experts, int32_t e) const {
    return through_experts + balance_scale * dimportance[e];
  }
  MOE_HOST_DEVICE ByLoad LoadGradient(int64_t token, int32_t e, float threshold) const {
    const float sigma = forward.Sigma(token, e);
    const float u = (forward.logits[token * forward.num_experts + e] - threshold) / sigma;
    const float du = balance_scale * dload[e] * NormalDensityOf(u) / sigma;
    return {du, -du * u};
  }
};

// weight (cv^2(importance) + cv^2(load)) and its gradients: one row.
struct BalanceLoss {
  static constexpr int kThreads = 1;
  int64_t rows;  // 1
  int32_t num_experts;
  double weight;
  const double *importance, *load;  // [N], sums over tokens
  double* loss;                     // [1]
  float *dimportance, *dload;       // [N]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t, const Team&) const {
    loss[0] = weight * (CvSquared(importance, dimportance) + CvSquared(load, dload));
  }

  // The squared coefficient of variation; its gradient, times the weight, goes to `gradient`.
  MOE_HOST_DEVICE double CvSquared(const double* values, float* gradient) const {
    constexpr double kEpsilon = 1e-10;
    const double count = num_experts;
    for (int32_t e = 0; e < num_experts; ++e) gradient[e] = 0;
    if (num_experts < 2) return 0;
    double mean = 0, variance = 0;
    for (int32_t e = 0; e < num_experts; ++e) mean += values[e] / count;
    for (int32_t e = 0; e < num_experts; ++e) {
      variance += (values[e] - mean) * (values[e] - mean) / (count - 1);
    }
    const double square = mean * mean + kEpsilon;
    for (int32_t e = 0; e < num_experts; ++e) {
      gradient[e] = static_cast<float>(weight * (2 * (values[e] - mean) / ((count - 1) * square) -
                                                 variance * 2 * mean / (count * square * square)));
    }
    return variance / square;
  }
};

}  // namespace moe::kernels::device
