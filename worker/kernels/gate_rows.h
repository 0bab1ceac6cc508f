// What a noisy top-k gate computes for each token over all experts (worker/model/gate.h has the
// formulas): g logits, n standard normal draws, raw what softplus makes the noise's size of. For
// one token, [N] each, by the calling thread.
#pragma once

#include <cstdint>

namespace moe::kernels {

// x = tanh(x)
void TanhInPlace(int64_t count, float* x);

// sigma = softplus(raw) + epsilon, scaled_noise = n sigma, z = g + scaled_noise.
void NoisyLogits(const float* g, const float* n, const float* raw, float epsilon, int64_t N,
                 float* sigma, float* scaled_noise, float* z);

// What an expert would have to reach: the k-th largest z, or, for one that is in, the next.
struct GateThresholds {
  float last_in = 0, runner_up = 0;
};

// load = Phi((g - threshold) / sigma), where `tested` decides which threshold.
void LoadEstimates(const float* g, const float* tested, const float* sigma,
                   const GateThresholds& thresholds, int64_t N, float* load);

// From dload, the gradient of load: adds to dg and dsigma, and returns the gradients of the
// thresholds.
GateThresholds LoadGradients(const float* g, const float* tested, const float* sigma,
                             const GateThresholds& thresholds, const float* dload, int64_t N,
                             float* dg, float* dsigma);

// draw = (dsigma + dz n) * d softplus(raw)
void RawSigmaGradients(const float* dsigma, const float* dz, const float* n, const float* raw,
                       int64_t N, float* draw);

}  // namespace moe::kernels
