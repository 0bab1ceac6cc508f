// One decoder layer, forward and backward: x + attention(norm(x)), then + ffn(norm(x)).
//
// B samples, T tokens over all of them, d hidden size. The residual stream and its gradient are
// fp32; Float is what products are computed in: float or c10::BFloat16.
#pragma once

#include <cstdint>
#include <span>

#include "storage/artefacts/model_config.h"
#include "worker/kernels/attention.h"
#include "worker/kernels/buffer.h"
#include "worker/kernels/rope.h"
#include "worker/model/ffn.h"

namespace moe::model {

template <typename Float>
struct LayerWeights {
  const float* attn_norm = nullptr;
  const Float* qkv = nullptr;
  const Float* attn_out = nullptr;
  const float* ffn_norm = nullptr;
  FfnWeights<Float> ffn;
};

struct LayerGradients {
  float* attn_norm = nullptr;
  float* qkv = nullptr;
  float* attn_out = nullptr;
  float* ffn_norm = nullptr;
  FfnGradients ffn;
};

// What the backward cannot cheaply compute again. Norm outputs, SwiGLU products, attention
// probabilities and gathered rows are not here.
template <typename Float>
struct LayerSaved {
  kernels::Buffer<float> x, x_mid;             // [T, d]: input, and after attention
  kernels::Buffer<float> attn_rstd, ffn_rstd;  // [T]
  kernels::Buffer<Float> qkv, attention;       // [T, (H + 2 K) hd] rotated, [T, H hd]
  kernels::Buffer<float> log_sum_exp;          // [T H], see attention.h
  FfnSaved<Float> ffn;
};

template <typename Float>
struct LayerScratch {
  kernels::Buffer<Float> normed, dy, dattention, dqkv;
  kernels::Buffer<float> normed_fp32, dnormed;
  FfnScratch<Float> ffn;
};

// The shapes that all layers of a pass share.
struct LayerShape {
  const artefacts::ModelConfig& config;
  LoadEstimator estimator;
  const kernels::RopeTable& rope;
  std::span<const int32_t> positions;  // [T], of each token in its sample
  kernels::AttentionShape attention;

  int64_t tokens() const { return static_cast<int64_t>(positions.size()); }
};

// x + attention(norm(x)): reads saved.x; writes saved.x_mid.
template <typename Float>
void AttentionHalfForward(const LayerShape& shape, const LayerWeights<Float>& weights,
                          LayerSaved<Float>& saved, LayerScratch<Float>& scratch);

// Reads saved.x; writes y_Td. noise_TN as in GateForward; unused in a dense model.
template <typename Float>
void LayerForward(const LayerShape& shape, const LayerWeights<Float>& weights,
                  const float* noise_TN, LayerSaved<Float>& saved, LayerScratch<Float>& scratch,
                  float* y_Td);

// dx_Td holds the gradient of y and becomes that of x. Adds to the weights' gradients.
template <typename Float>
void LayerBackward(const LayerShape& shape, const LayerWeights<Float>& weights,
                   double balance_scale, LayerSaved<Float>& saved, LayerScratch<Float>& scratch,
                   const LayerGradients& gradients, float* dx_Td);

}  // namespace moe::model
