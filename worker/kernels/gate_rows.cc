#include "worker/kernels/gate_rows.h"

#include "worker/kernels/multiversion.h"
#include "worker/kernels/vector_math.h"

namespace moe::kernels {
namespace {

MOE_ALWAYS_INLINE float NormalCdf(float u) { return 0.5f * (1.0f + Erf(u * 0.707106781f)); }
MOE_ALWAYS_INLINE float NormalDensity(float u) { return 0.398942280f * Exp(-0.5f * u * u); }

}  // namespace

MOE_MULTIVERSION void TanhInPlace(int64_t count, float* x) {
  for (int64_t i = 0; i < count; ++i) x[i] = Tanh(x[i]);
}

MOE_MULTIVERSION void NoisyLogits(const float* __restrict g, const float* __restrict n,
                                  const float* __restrict raw, float epsilon, int64_t N,
                                  float* __restrict sigma, float* __restrict scaled_noise,
                                  float* __restrict z) {
  for (int64_t e = 0; e < N; ++e) {
    sigma[e] = Softplus(raw[e]) + epsilon;
    scaled_noise[e] = n[e] * sigma[e];
    z[e] = g[e] + scaled_noise[e];
  }
}

MOE_MULTIVERSION void LoadEstimates(const float* __restrict g, const float* __restrict tested,
                                    const float* __restrict sigma, const GateThresholds& thresholds,
                                    int64_t N, float* __restrict load) {
  const float last_in = thresholds.last_in, runner_up = thresholds.runner_up;
  for (int64_t e = 0; e < N; ++e) {
    const float threshold = tested[e] > runner_up ? runner_up : last_in;
    load[e] = NormalCdf((g[e] - threshold) / sigma[e]);
  }
}

MOE_MULTIVERSION GateThresholds LoadGradients(const float* __restrict g,
                                              const float* __restrict tested,
                                              const float* __restrict sigma,
                                              const GateThresholds& thresholds,
                                              const float* __restrict dload, int64_t N,
                                              float* __restrict dg, float* __restrict dsigma) {
  const float last_in = thresholds.last_in, runner_up = thresholds.runner_up;
  float to_last_in = 0, to_runner_up = 0;
#pragma omp simd reduction(+ : to_last_in, to_runner_up)
  for (int64_t e = 0; e < N; ++e) {
    const bool is_in = tested[e] > runner_up;
    const float u = (g[e] - (is_in ? runner_up : last_in)) / sigma[e];
    const float du = dload[e] * NormalDensity(u) / sigma[e];
    dg[e] += du;
    dsigma[e] -= du * u;
    to_runner_up -= is_in ? du : 0.0f;
    to_last_in -= is_in ? 0.0f : du;
  }
  return {.last_in = to_last_in, .runner_up = to_runner_up};
}

MOE_MULTIVERSION void RawSigmaGradients(const float* __restrict dsigma, const float* __restrict dz,
                                        const float* __restrict n, const float* __restrict raw,
                                        int64_t N, float* __restrict draw) {
  for (int64_t e = 0; e < N; ++e) draw[e] = (dsigma[e] + dz[e] * n[e]) * Sigmoid(raw[e]);
}

}  // namespace moe::kernels
