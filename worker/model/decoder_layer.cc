#include "worker/model/decoder_layer.h"

#include "worker/kernels/convert.h"
#include "worker/kernels/gemm.h"
#include "worker/kernels/rms_norm.h"

namespace moe::model {
namespace {

using kernels::Gemm;
using kernels::Matrix;
using kernels::Output;
using kernels::RmsNormApply;
using kernels::RmsNormBackward;
using kernels::RmsNormForward;
using kernels::Rope;
using kernels::Rotation;

// The FFN's input, norm(x), in both precisions; one buffer where they are the same.
template <typename Float>
struct FfnInput {
  const Float* x;
  const float* x_fp32;
};

FfnInput<float> NormForward(const float* x, const float* weight, int64_t T, int64_t d, float eps,
                            float* rstd, LayerScratch<float>& scratch) {
  float* y = scratch.normed_fp32.Reserve(T * d);
  RmsNormForward(x, weight, T, d, eps, y, rstd);
  return {y, y};
}
FfnInput<c10::BFloat16> NormForward(const float* x, const float* weight, int64_t T, int64_t d,
                                    float eps, float* rstd, LayerScratch<c10::BFloat16>& scratch) {
  float* y = scratch.normed_fp32.Reserve(T * d);
  c10::BFloat16* rounded = scratch.normed.Reserve(T * d);
  RmsNormForward(x, weight, T, d, eps, y, rounded, rstd);
  return {rounded, y};
}

FfnInput<float> NormAgain(const float* x, const float* weight, int64_t T, int64_t d,
                          const float* rstd, LayerScratch<float>& scratch) {
  float* y = scratch.normed_fp32.Reserve(T * d);
  RmsNormApply(x, weight, rstd, T, d, y);
  return {y, y};
}
FfnInput<c10::BFloat16> NormAgain(const float* x, const float* weight, int64_t T, int64_t d,
                                  const float* rstd, LayerScratch<c10::BFloat16>& scratch) {
  float* y = scratch.normed_fp32.Reserve(T * d);
  c10::BFloat16* rounded = scratch.normed.Reserve(T * d);
  RmsNormApply(x, weight, rstd, T, d, y, rounded);
  return {rounded, y};
}

const float* Rounded(const float* fp32, LayerScratch<float>&, int64_t, int64_t) { return fp32; }
const c10::BFloat16* Rounded(const float* fp32, LayerScratch<c10::BFloat16>& scratch,
                             int64_t tokens, int64_t d) {
  c10::BFloat16* rounded = scratch.dy.Reserve(tokens * d);
  kernels::ConvertRows(fp32, d, tokens, d, rounded, d);
  return rounded;
}

}  // namespace

template <typename Float>
void AttentionHalfForward(const LayerShape& shape, const LayerWeights<Float>& weights,
                          LayerSaved<Float>& saved, LayerScratch<Float>& scratch) {
  const artefacts::ModelConfig& config = shape.config;
  const int64_t T = shape.tokens(), d = config.hidden_size;
  const int64_t qkv_width = shape.attention.qkv_width(), out_width = shape.attention.out_width();
  const float eps = static_cast<float>(config.rms_norm_eps);
  const float* x = saved.x.data();

  Float* normed = scratch.normed.Reserve(T * d);
  RmsNormForward(x, weights.attn_norm, T, d, eps, normed, saved.attn_rstd.Reserve(T));
  Float* qkv = saved.qkv.Reserve(T * qkv_width);
  Gemm(Matrix<const Float>(normed, T, d),
       Matrix<const Float>(weights.qkv, qkv_width, d).Transposed(), Output::kOverwrite,
       Matrix<Float>(qkv, T, qkv_width));
  Rope(shape.rope, Rotation::kForward, shape.positions, config.num_heads + config.num_kv_heads, qkv,
       qkv_width);
  Float* attention = saved.attention.Reserve(T * out_width);
  kernels::AttentionForward<Float>(shape.attention, qkv, attention,
                                   saved.log_sum_exp.Reserve(T * config.num_heads));
  float* x_mid = saved.x_mid.Reserve(T * d);
  kernels::ConvertRows(x, d, T, d, x_mid, d);
  Gemm(Matrix<const Float>(attention, T, out_width),
       Matrix<const Float>(weights.attn_out, d, out_width).Transposed(), Output::kAdd,
       Matrix<float>(x_mid, T, d));
}

template <typename Float>
void LayerForward(const LayerShape& shape, const LayerWeights<Float>& weights,
                  const float* noise_TN, LayerSaved<Float>& saved, LayerScratch<Float>& scratch,
                  float* y_Td) {
  const artefacts::ModelConfig& config = shape.config;
  const int64_t T = shape.tokens(), d = config.hidden_size;
  const float eps = static_cast<float>(config.rms_norm_eps);
  AttentionHalfForward(shape, weights, saved, scratch);
  const float* x_mid = saved.x_mid.data();

  const FfnInput<Float> input =
      NormForward(x_mid, weights.ffn_norm, T, d, eps, saved.ffn_rstd.Reserve(T), scratch);
  if (weights.ffn.gate.router_0 != nullptr) {
    MoeFfnForward(config.moe, shape.estimator, weights.ffn, input.x, input.x_fp32, noise_TN, x_mid,
                  T, d, saved.ffn, scratch.ffn, y_Td);
  } else {
    kernels::ConvertRows(x_mid, d, T, d, y_Td, d);
    DenseFfnForward(weights.ffn, input.x, T, d, config.intermediate_size, saved.ffn, scratch.ffn,
                    y_Td);
  }
}

template <typename Float>
void LayerBackward(const LayerShape& shape, const LayerWeights<Float>& weights,
                   double balance_scale, LayerSaved<Float>& saved, LayerScratch<Float>& scratch,
                   const LayerGradients& gradients, float* dx_Td) {
  const artefacts::ModelConfig& config = shape.config;
  const int64_t T = shape.tokens(), d = config.hidden_size;
  const int64_t qkv_width = shape.attention.qkv_width(), out_width = shape.attention.out_width();
  float* dnormed = scratch.dnormed.Reserve(T * d);

  // FFN.
  const FfnInput<Float> input =
      NormAgain(saved.x_mid.data(), weights.ffn_norm, T, d, saved.ffn_rstd.data(), scratch);
  const Float* dy = Rounded(dx_Td, scratch, T, d);
  if (weights.ffn.gate.router_0 != nullptr) {
    MoeFfnBackward(config.moe, shape.estimator, weights.ffn, input.x, input.x_fp32, dy,
                   balance_scale, T, d, saved.ffn, scratch.ffn, gradients.ffn, dnormed);
  } else {
    DenseFfnBackward(weights.ffn, input.x, dy, T, d, config.intermediate_size, saved.ffn,
                     scratch.ffn, gradients.ffn, dnormed);
  }
  RmsNormBackward(dnormed, saved.x_mid.data(), weights.ffn_norm, saved.ffn_rstd.data(), T, d, dx_Td,
                  gradients.ffn_norm);

  // Attention.
  const Matrix<const Float> dy_attention(Rounded(dx_Td, scratch, T, d), T, d);
  const Matrix<const Float> attention(saved.attention.data(), T, out_width);
  Float* dattention = scratch.dattention.Reserve(T * out_width);
  Gemm(dy_attention, Matrix<const Float>(weights.attn_out, d, out_width), Output::kOverwrite,
       Matrix<Float>(dattention, T, out_width));
  Gemm(dy_attention.Transposed(), attention, Output::kAdd,
       Matrix<float>(gradients.attn_out, d, out_width));
  Float* dqkv = scratch.dqkv.Reserve(T * qkv_width);
  kernels::AttentionBackward<Float>(shape.attention, dattention, saved.qkv.data(),
                                    saved.attention.data(), saved.log_sum_exp.data(), dqkv);
  Rope(shape.rope, Rotation::kInverse, shape.positions, config.num_heads + config.num_kv_heads,
       dqkv, qkv_width);
  Float* normed = scratch.normed.Reserve(T * d);
  RmsNormApply(saved.x.data(), weights.attn_norm, saved.attn_rstd.data(), T, d, normed);
  const Matrix<const Float> dqkv_block(dqkv, T, qkv_width);
  Gemm(dqkv_block.Transposed(), Matrix<const Float>(normed, T, d), Output::kAdd,
       Matrix<float>(gradients.qkv, qkv_width, d));
  Gemm(dqkv_block, Matrix<const Float>(weights.qkv, qkv_width, d), Output::kOverwrite,
       Matrix<float>(dnormed, T, d));
  RmsNormBackward(dnormed, saved.x.data(), weights.attn_norm, saved.attn_rstd.data(), T, d, dx_Td,
                  gradients.attn_norm);
}

#define MOE_INSTANTIATE(Float)                                                                 \
  template void AttentionHalfForward(const LayerShape&, const LayerWeights<Float>&,            \
                                     LayerSaved<Float>&, LayerScratch<Float>&);                \
  template void LayerForward(const LayerShape&, const LayerWeights<Float>&, const float*,      \
                             LayerSaved<Float>&, LayerScratch<Float>&, float*);                \
  template void LayerBackward(const LayerShape&, const LayerWeights<Float>&, double,           \
                              LayerSaved<Float>&, LayerScratch<Float>&, const LayerGradients&, \
                              float*)
MOE_INSTANTIATE(float);
MOE_INSTANTIATE(c10::BFloat16);
#undef MOE_INSTANTIATE

}  // namespace moe::model
