#include "worker/model/gate.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "common/philox.h"
#include "worker/kernels/gate_rows.h"
#include "worker/kernels/gemm.h"
#include "worker/kernels/parallel.h"
#include "worker/model/switch_gate.h"

namespace moe::model {
namespace {

using kernels::Gemm;
using kernels::Matrix;
using kernels::Output;
using kernels::ParallelFor;

constexpr int64_t kMinTokensPerThread = 64;
constexpr double kCvEpsilon = 1e-10;

double Mean(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

double UnbiasedVariance(const std::vector<double>& values, double mean) {
  double sum = 0;
  for (double value : values) sum += (value - mean) * (value - mean);
  return sum / static_cast<double>(values.size() - 1);
}

// Squared coefficient of variation; 0 for a single expert.
double CvSquared(const std::vector<double>& values) {
  if (values.size() < 2) return 0;
  const double mean = Mean(values);
  return UnbiasedVariance(values, mean) / (mean * mean + kCvEpsilon);
}

std::vector<double> CvSquaredGradient(const std::vector<double>& values) {
  std::vector<double> gradient(values.size(), 0.0);
  if (values.size() < 2) return gradient;
  const double count = static_cast<double>(values.size()), mean = Mean(values);
  const double square = mean * mean + kCvEpsilon;
  const double through_mean = UnbiasedVariance(values, mean) * 2 * mean / (count * square * square);
  for (size_t i = 0; i < values.size(); ++i) {
    gradient[i] = 2 * (values[i] - mean) / ((count - 1) * square) - through_mean;
  }
  return gradient;
}

// The noisy logits of one token at a time; without noise, z is g.
class NoisyToken {
 public:
  NoisyToken(const GateResult& result, int64_t N, double epsilon)
      : result_(result), N_(N), epsilon_(static_cast<float>(epsilon)), room_(3 * N) {}

  void MoveTo(int64_t token) {
    g = result_.logits.data() + token * N_;
    z = g;
    if (result_.noise.empty()) return;
    n = result_.noise.data() + token * N_;
    raw_sigma = result_.raw_sigma.data() + token * N_;
    float* noisy = room_.data();
    kernels::NoisyLogits(g, n, raw_sigma, epsilon_, N_, noisy + N_, noisy + 2 * N_, noisy);
    z = noisy;
    sigma = noisy + N_;
    scaled_noise = noisy + 2 * N_;
  }
  // What decides whether an expert is in, for the estimate of its load. The published code compares
  // the noise alone with the threshold; Shazeer et al. compare the noisy logit, which makes the
  // loads add up to k T.
  const float* Tested(LoadEstimator estimator) const {
    return estimator == LoadEstimator::kCompat ? scaled_noise : z;
  }

  const float* g = nullptr;
  const float* z = nullptr;
  // Null without noise.
  const float* n = nullptr;
  const float* raw_sigma = nullptr;
  const float* sigma = nullptr;
  const float* scaled_noise = nullptr;

 private:
  const GateResult& result_;
  const int64_t N_;
  const float epsilon_;
  std::vector<float> room_;
};

// The `count` largest of z, the largest first; ties go to the lower expert.
void LargestFirst(const float* z, int64_t N, int64_t count, std::vector<float>& room,
                  int32_t* order) {
  room.assign(z, z + N);
  for (int64_t j = 0; j < count; ++j) {
    order[j] = static_cast<int32_t>(std::ranges::max_element(room) - room.begin());
    room[order[j]] = -std::numeric_limits<float>::infinity();
  }
}

// logits, and tanh's output where there are two matrices.
void NetworkForward(const GateWeights& weights, const float* x_Td, int64_t tokens, int64_t d,
                    int64_t N, GateResult& result) {
  const bool is_mlp = weights.router_2 != nullptr;
  result.logits.resize(tokens * N);
  result.hidden.resize(is_mlp ? tokens * N : 0);
  float* first = is_mlp ? result.hidden.data() : result.logits.data();
  Gemm(Matrix<const float>(x_Td, tokens, d),
       Matrix<const float>(weights.router_0, N, d).Transposed(), Output::kOverwrite,
       Matrix<float>(first, tokens, N));
  if (!is_mlp) return;
  ParallelFor(tokens * N, kMinTokensPerThread * N, [&](int64_t begin, int64_t end) {
    kernels::TanhInPlace(end - begin, first + begin);
  });
  Gemm(Matrix<const float>(first, tokens, N),
       Matrix<const float>(weights.router_2, N, N).Transposed(), Output::kOverwrite,
       Matrix<float>(result.logits.data(), tokens, N));
}

// gradient_TN = that of a product of x and w: added to dw and dx.
void LinearBackward(const std::vector<float>& gradient_TN, const float* w_Nd, const float* x_Td,
                    int64_t tokens, int64_t d, int64_t N, float* dw_Nd, float* dx_Td) {
  const Matrix<const float> dy(gradient_TN.data(), tokens, N);
  Gemm(dy.Transposed(), Matrix<const float>(x_Td, tokens, d), Output::kAdd,
       Matrix<float>(dw_Nd, N, d));
  Gemm(dy, Matrix<const float>(w_Nd, N, d), Output::kAdd, Matrix<float>(dx_Td, tokens, d));
}

void NetworkBackward(const GateWeights& weights, const float* x_Td, int64_t d,
                     const GateResult& result, const std::vector<float>& dlogits_TN,
                     const GateGradients& gradients, float* dx_Td) {
  const int64_t tokens = result.tokens, N = std::ssize(result.load);
  if (weights.router_2 == nullptr) {
    LinearBackward(dlogits_TN, weights.router_0, x_Td, tokens, d, N, gradients.router_0, dx_Td);
    return;
  }
  const Matrix<const float> dy(dlogits_TN.data(), tokens, N);
  Gemm(dy.Transposed(), Matrix<const float>(result.hidden.data(), tokens, N), Output::kAdd,
       Matrix<float>(gradients.router_2, N, N));
  std::vector<float> dhidden(tokens * N);
  Gemm(dy, Matrix<const float>(weights.router_2, N, N), Output::kOverwrite,
       Matrix<float>(dhidden.data(), tokens, N));
  for (int64_t i = 0; i < tokens * N; ++i) {
    dhidden[i] *= 1.0f - result.hidden[i] * result.hidden[i];
  }
  LinearBackward(dhidden, weights.router_0, x_Td, tokens, d, N, gradients.router_0, dx_Td);
}

}  // namespace

void GateForward(const artefacts::MoeConfig& config, LoadEstimator estimator,
                 const GateWeights& weights, const float* x_Td, int64_t tokens, int64_t d,
                 const float* standard_normal_TN, GateResult& result) {
  const int64_t N = config.num_experts, k = config.top_k, wanted = std::min(k + 1, N);
  result.tokens = tokens;
  NetworkForward(weights, x_Td, tokens, d, N, result);
  if (config.is_switch()) {
    SwitchForward(config, standard_normal_TN, result);
    return;
  }
  const bool has_noise = standard_normal_TN != nullptr;
  const bool smooth_load = has_noise && k < N;
  result.noise.assign(standard_normal_TN, standard_normal_TN + (has_noise ? tokens * N : 0));
  result.raw_sigma.resize(has_noise ? tokens * N : 0);
  result.indices.resize(tokens * k);
  result.scores.resize(tokens * k);
  result.runner_up.resize(k < N ? tokens : 0);
  if (has_noise) {
    Gemm(Matrix<const float>(x_Td, tokens, d),
         Matrix<const float>(weights.noise, N, d).Transposed(), Output::kOverwrite,
         Matrix<float>(result.raw_sigma.data(), tokens, N));
  }

  std::vector<float> load_TN(smooth_load ? tokens * N : 0);
  ParallelFor(tokens, kMinTokensPerThread, [&](int64_t begin, int64_t end) {
    NoisyToken token(result, N, config.noise_epsilon);
    std::vector<float> room(N);
    std::vector<int32_t> order(wanted);
    for (int64_t t = begin; t < end; ++t) {
      token.MoveTo(t);
      const float* z = token.z;
      LargestFirst(z, N, wanted, room, order.data());

      float sum = 0;
      float* scores = result.scores.data() + t * k;
      for (int64_t j = 0; j < k; ++j) {
        result.indices[t * k + j] = order[j];
        scores[j] = std::exp(z[order[j]] - z[order[0]]);
        sum += scores[j];
      }
      for (int64_t j = 0; j < k; ++j) scores[j] /= sum;
      if (k < N) result.runner_up[t] = order[k];
      if (!smooth_load) continue;
      kernels::LoadEstimates(token.g, token.Tested(estimator), token.sigma,
                             {.last_in = z[order[k - 1]], .runner_up = z[order[k]]}, N,
                             load_TN.data() + t * N);
    }
  });

  result.importance.assign(N, 0.0);
  result.load.assign(N, 0.0);
  result.routed.assign(N, 0);
  for (int64_t slot = 0; slot < tokens * k; ++slot) {
    const int32_t expert = result.indices[slot];
    result.importance[expert] += result.scores[slot];
    ++result.routed[expert];
    // A score can underflow to zero; the published code does not count it.
    if (!smooth_load && result.scores[slot] > 0) result.load[expert] += 1;
  }
  if (smooth_load) {
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t e = 0; e < N; ++e) result.load[e] += load_TN[t * N + e];
    }
  }
  result.balance_loss =
      config.balance_loss_weight * (CvSquared(result.importance) + CvSquared(result.load));
}

void GateBackward(const artefacts::MoeConfig& config, LoadEstimator estimator,
                  const GateWeights& weights, const float* x_Td, int64_t d,
                  const GateResult& result, const float* dscores_Tk, double balance_scale,
                  const GateGradients& gradients, float* dx_Td) {
  const int64_t N = config.num_experts, k = config.top_k, tokens = result.tokens;
  const bool has_noise = !result.noise.empty();
  const bool smooth_load = has_noise && k < N;

  const double weight = config.balance_loss_weight * balance_scale;
  std::vector<float> dlogits(tokens * N), draw_sigma(has_noise ? tokens * N : 0);
  if (config.is_switch()) {
    SwitchBackward(result, dscores_Tk, weight, dlogits);
    NetworkBackward(weights, x_Td, d, result, dlogits, gradients, dx_Td);
    return;
  }
  std::vector<double> dimportance = CvSquaredGradient(result.importance);
  for (double& value : dimportance) value *= weight;
  std::vector<float> dload;
  for (const double value : CvSquaredGradient(result.load)) {
    dload.push_back(static_cast<float>(value * weight));
  }

  ParallelFor(tokens, kMinTokensPerThread, [&](int64_t begin, int64_t end) {
    NoisyToken token(result, N, config.noise_epsilon);
    std::vector<float> dz(N), dg(N), dsigma(N), dscore(k);
    for (int64_t t = begin; t < end; ++t) {
      token.MoveTo(t);
      const int32_t* chosen = result.indices.data() + t * k;
      const float* scores = result.scores.data() + t * k;
      std::fill(dz.begin(), dz.end(), 0.0f);
      std::fill(dg.begin(), dg.end(), 0.0f);
      std::fill(dsigma.begin(), dsigma.end(), 0.0f);

      // Softmax over the chosen.
      float dot = 0;
      for (int64_t j = 0; j < k; ++j) {
        dscore[j] = dscores_Tk[t * k + j] + static_cast<float>(dimportance[chosen[j]]);
        dot += dscore[j] * scores[j];
      }
      for (int64_t j = 0; j < k; ++j) dz[chosen[j]] += scores[j] * (dscore[j] - dot);

      // The load estimate: by g, by sigma, and by the thresholds, which are two experts' z.
      if (smooth_load) {
        const int32_t last_in = chosen[k - 1], runner_up = result.runner_up[t];
        const kernels::GateThresholds by_threshold =
            kernels::LoadGradients(token.g, token.Tested(estimator), token.sigma,
                                   {.last_in = token.z[last_in], .runner_up = token.z[runner_up]},
                                   dload.data(), N, dg.data(), dsigma.data());
        dz[last_in] += by_threshold.last_in;
        dz[runner_up] += by_threshold.runner_up;
      }
      for (int64_t e = 0; e < N; ++e) dlogits[t * N + e] = dg[e] + dz[e];
      if (!has_noise) continue;
      kernels::RawSigmaGradients(dsigma.data(), dz.data(), token.n, token.raw_sigma, N,
                                 draw_sigma.data() + t * N);
    }
  });

  NetworkBackward(weights, x_Td, d, result, dlogits, gradients, dx_Td);
  if (has_noise) {
    LinearBackward(draw_sigma, weights.noise, x_Td, tokens, d, N, gradients.noise, dx_Td);
  }
}

void DrawGateNoise(const NoiseContext& context, int64_t layer, std::span<const TokenPlace> places,
                   int64_t num_experts, float* out) {
  const int64_t tokens = static_cast<int64_t>(places.size());
  ParallelFor(tokens, kMinTokensPerThread, [=](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      const TokenPlace place = places[static_cast<size_t>(t)];
      const uint64_t sample = static_cast<uint64_t>(context.first_sample + place.sample);
      const uint64_t position = static_cast<uint64_t>(place.position);
      for (int64_t e = 0; e < num_experts; e += 4) {
        const uint64_t index = sample << 24 | position << 6 | static_cast<uint64_t>(e / 4);
        const std::array<float, 4> normal = Normal4(
            Philox(context.seed, RandomStream::kGateNoise, static_cast<uint32_t>(layer), index));
        for (int64_t i = 0; i < 4 && e + i < num_experts; ++i) {
          out[t * num_experts + e + i] = normal[i];
        }
      }
    }
  });
}

void DrawGateNoise(const NoiseContext& context, int64_t layer, int64_t batch, int64_t sequence,
                   int64_t num_experts, float* out) {
  std::vector<int64_t> ends;
  for (int64_t b = 1; b <= batch; ++b) ends.push_back(b * sequence);
  DrawGateNoise(context, layer, PlacesOf(ends), num_experts, out);
}

}  // namespace moe::model
