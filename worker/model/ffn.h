// The feed-forward part of a decoder layer, forward and backward: dense, or a mixture of experts.
//
// T tokens, d hidden size, n FFN (or expert) width, N experts, k experts per token, R = T k rows,
// m width of the shared expert. Where the experts are shared out among ranks, weights and gradients
// of routed experts are those of this rank's, and R of what is saved is the rows that they got.
// Float is what the model computes in: float or c10::BFloat16.
#pragma once

#include <c10/util/BFloat16.h>

#include <cstdint>
#include <vector>

#include "storage/artefacts/model_config.h"
#include "worker/kernels/buffer.h"
#include "worker/kernels/dispatch.h"
#include "worker/kernels/gemm.h"
#include "worker/model/expert_exchange.h"
#include "worker/model/gate.h"

namespace moe::model {

template <typename Float>
struct FfnWeights {
  const Float* gate_up = nullptr;  // [2 n, d], or [N, 2 n, d]
  const Float* down = nullptr;     // [d, n], or [N, d, n]
  // Of a mixture.
  ExpertExchange* exchange = nullptr;  // to experts of other ranks; null where all are here
  GateWeights gate;
  float scale = 1;                        // on every routed expert's output
  const Float* shared_gate_up = nullptr;  // [2 m, d]; null without a shared expert
  const Float* shared_down = nullptr;     // [d, m]
  const float* output_bias = nullptr;     // [d]; null without one
};

struct FfnGradients {
  float* gate_up = nullptr;
  float* down = nullptr;
  GateGradients gate;
  float* scale = nullptr;  // [1]; null where the scale is a constant
  float* shared_gate_up = nullptr;
  float* shared_down = nullptr;
  float* output_bias = nullptr;
};

// What one layer keeps from its forward to its backward.
template <typename Float>
struct FfnSaved {
  kernels::Buffer<Float> gate_up;  // [T, 2 n], or [R, 2 n]
  GateResult gate;
  kernels::Dispatch dispatch;
  kernels::Buffer<float> row_scale;  // [T k]: score * scale
  // What other ranks' tokens make of it.
  ExpertRoute route;
  kernels::Buffer<Float> arrived_x;       // [R, d], as they arrived
  kernels::Buffer<float> arrived_scale;   // [R], by expert
  kernels::Buffer<Float> shared_gate_up;  // [T, 2 m]
};

// Room for one layer at a time. Of a dense FFN, R is T.
template <typename Float>
struct FfnScratch {
  kernels::Buffer<Float> h, dh, dgate_up;  // [R, n], [R, n], [R, 2 n]
  kernels::Buffer<Float> rows_d;           // [R, d]
  kernels::Buffer<float> dscale, dscores;
  // Of each expert.
  std::vector<kernels::RightSide<Float>> gate_up_weights, down_weights;
  // Where experts are shared out: as they arrived, and by expert.
  kernels::Buffer<Float> arrived_dy, computed_d;  // [R, d]
  kernels::Buffer<float> computed_dscale;         // [R]
};

// y_Td += down(silu(gate x) * up x)
template <typename Float>
void DenseFfnForward(const FfnWeights<Float>& weights, const Float* x_Td, int64_t tokens, int64_t d,
                     int64_t n, FfnSaved<Float>& saved, FfnScratch<Float>& scratch, float* y_Td);

// dx_Td is overwritten; weight gradients are added.
template <typename Float>
void DenseFfnBackward(const FfnWeights<Float>& weights, const Float* x_Td, const Float* dy_Td,
                      int64_t tokens, int64_t d, int64_t n, const FfnSaved<Float>& saved,
                      FfnScratch<Float>& scratch, const FfnGradients& gradients, float* dx_Td);

// y_Td = residual_Td + sum over a token's experts of score * scale * expert(x), + shared expert(x),
// + bias; without a residual that is null. The gate reads x_fp32_Td, the same values before
// rounding. noise_TN as in GateForward.
template <typename Float>
void MoeFfnForward(const artefacts::MoeConfig& config, LoadEstimator estimator,
                   const FfnWeights<Float>& weights, const Float* x_Td, const float* x_fp32_Td,
                   const float* noise_TN, const float* residual_Td, int64_t tokens, int64_t d,
                   FfnSaved<Float>& saved, FfnScratch<Float>& scratch, float* y_Td);

// balance_scale is the gradient of the loss by saved.gate.balance_loss.
template <typename Float>
void MoeFfnBackward(const artefacts::MoeConfig& config, LoadEstimator estimator,
                    const FfnWeights<Float>& weights, const Float* x_Td, const float* x_fp32_Td,
                    const Float* dy_Td, double balance_scale, int64_t tokens, int64_t d,
                    const FfnSaved<Float>& saved, FfnScratch<Float>& scratch,
                    const FfnGradients& gradients, float* dx_Td);

}  // namespace moe::model
