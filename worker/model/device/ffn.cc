#include "worker/model/device/ffn.h"

#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/zeros.h>

#include "worker/model/device/linear.h"

namespace moe::model::device {

namespace kd = kernels::device;

namespace {

at::Tensor Swiglu(const Pass& pass, const at::Tensor& gate_up, const at::Tensor& scale = {}) {
  const int64_t rows = gate_up.size(0), n = gate_up.size(1) / 2;
  at::Tensor h = pass.Empty({rows, n}, pass.type);
  pass.kernels.Run(kd::SwigluForward{.rows = rows,
                                     .type = kd::TypeOf(h),
                                     .n = n,
                                     .gate_up = gate_up.const_data_ptr(),
                                     .scale = DataOf<float>(scale),
                                     .h = h.mutable_data_ptr()});
  return h;
}

struct SwigluGradients {
  at::Tensor dgate_up, dscale, h;
};

SwigluGradients SwigluGradient(const Pass& pass, const at::Tensor& dh, const at::Tensor& gate_up,
                               const at::Tensor& scale = {}) {
  SwigluGradients result = {.dgate_up = at::empty_like(gate_up), .h = at::empty_like(dh)};
  if (scale.defined()) result.dscale = at::empty_like(scale);
  pass.kernels.Run(kd::SwigluBackward{.rows = dh.size(0),
                                      .type = kd::TypeOf(dh),
                                      .n = dh.size(1),
                                      .dh = dh.const_data_ptr(),
                                      .gate_up = gate_up.const_data_ptr(),
                                      .scale = DataOf<float>(scale),
                                      .dgate_up = result.dgate_up.mutable_data_ptr(),
                                      .dscale = MutableDataOf<float>(result.dscale),
                                      .h = result.h.mutable_data_ptr()});
  return result;
}

// y += down(silu(gate x) * up x); returns gate_up.
at::Tensor AddDense(const Pass& pass, const at::Tensor& gate_up_weight,
                    const at::Tensor& down_weight, const at::Tensor& x, const at::Tensor& y) {
  const at::Tensor gate_up = Linear(x, gate_up_weight);
  AddProduct(Swiglu(pass, gate_up), down_weight.t(), y);
  return gate_up;
}

// Adds to dx as well.
void DenseBackward(const Pass& pass, const at::Tensor& gate_up_weight,
                   const at::Tensor& down_weight, const at::Tensor& x, const at::Tensor& dy,
                   const at::Tensor& gate_up, const at::Tensor& dgate_up_weight,
                   const at::Tensor& ddown_weight, const at::Tensor& dx) {
  const SwigluGradients by = SwigluGradient(pass, at::mm(dy, down_weight), gate_up);
  AddProduct(dy.t(), by.h, ddown_weight);
  AddProduct(by.dgate_up.t(), x, dgate_up_weight);
  AddProduct(by.dgate_up, gate_up_weight, dx);
}

void AddExperts(const Pass& pass, const Dispatch& dispatch, const at::Tensor& from,
                const at::Tensor& into) {
  const int64_t experts = from.size(0), numel = from.numel() / experts;
  pass.kernels.Run(kd::AddExpertGradients{
      .rows = experts * kd::PartsOf(numel, kd::AddExpertGradients::kElementsPerPart),
      .type = kd::TypeOf(from),
      .numel = numel,
      .row_ends = DataOf<int32_t>(dispatch.row_ends),
      .from = from.const_data_ptr(),
      .into = MutableDataOf<float>(into)});
}

// base + the sum over a token's experts of score * scale * expert(x).
at::Tensor Experts(const Pass& pass, const LayerTensors& weights, const at::Tensor& x,
                   const at::Tensor& base, FfnSaved& saved) {
  const Dispatch& dispatch = saved.dispatch;
  // Rows that are nobody's have a scale as well.
  saved.row_scale = at::zeros({dispatch.rows()}, saved.gate.scores.options());
  pass.kernels.Run(kd::ScaleRows{.rows = dispatch.rows(),
                                 .row_of_slot = DataOf<int32_t>(dispatch.row_of_slot),
                                 .scores = DataOf<float>(saved.gate.scores),
                                 .scale = DataOf<float>(weights.scale),
                                 .row_scale = MutableDataOf<float>(saved.row_scale)});
  saved.gate_up =
      GroupedProduct(Gather(pass, dispatch, x), weights.gate_up.transpose(1, 2), dispatch.row_ends);
  const at::Tensor h = Swiglu(pass, saved.gate_up, saved.row_scale);
  const at::Tensor out = GroupedProduct(h, weights.down.transpose(1, 2), dispatch.row_ends);
  return Combine(pass, dispatch, out, base);
}

struct ExpertGradients {
  at::Tensor dx, dscores;
};

ExpertGradients ExpertsBackward(const Pass& pass, const LayerTensors& weights, const at::Tensor& x,
                                const at::Tensor& dy, const FfnSaved& saved,
                                const LayerTensors& gradients) {
  const Dispatch& dispatch = saved.dispatch;
  const at::Tensor dy_rows = Gather(pass, dispatch, dy);
  const SwigluGradients by =
      SwigluGradient(pass, GroupedProduct(dy_rows, weights.down, dispatch.row_ends), saved.gate_up,
                     saved.row_scale);
  AddExperts(pass, dispatch, GroupedProduct(dy_rows.t(), by.h, dispatch.row_ends), gradients.down);
  AddExperts(pass, dispatch,
             GroupedProduct(by.dgate_up.t(), Gather(pass, dispatch, x), dispatch.row_ends),
             gradients.gate_up);
  ExpertGradients result = {
      .dx =
          Combine(pass, dispatch, GroupedProduct(by.dgate_up, weights.gate_up, dispatch.row_ends)),
      .dscores = at::empty_like(saved.gate.scores)};
  const at::Tensor dscale_terms = at::empty_like(saved.gate.scores);
  pass.kernels.Run(kd::ScaleRowsBackward{.rows = dispatch.rows(),
                                         .row_of_slot = DataOf<int32_t>(dispatch.row_of_slot),
                                         .scores = DataOf<float>(saved.gate.scores),
                                         .scale = DataOf<float>(weights.scale),
                                         .drow_scale = DataOf<float>(by.dscale),
                                         .dscores = MutableDataOf<float>(result.dscores),
                                         .dscale_terms = MutableDataOf<float>(dscale_terms)});
  if (gradients.scale.defined()) gradients.scale.add_(at::sum(dscale_terms, at::kDouble));
  return result;
}

}  // namespace

at::Tensor Ffn(const Pass& pass, const LayerTensors& weights, const Normed& x,
               const at::Tensor& noise, const at::Tensor& base, FfnSaved& saved) {
  if (!weights.is_moe()) {
    at::Tensor y = base.clone();
    saved.gate_up = AddDense(pass, weights.gate_up, weights.down, x.y, y);
    return y;
  }
  const artefacts::MoeConfig& config = pass.config.moe;
  saved.gate = Gate(pass, weights, x.y_fp32, noise);
  saved.dispatch = BuildDispatch(pass, saved.gate.order, config.top_k, config.num_experts);
  at::Tensor y = Experts(pass, weights, x.y, base, saved);
  if (weights.shared_gate_up.defined()) {
    saved.shared_gate_up = AddDense(pass, weights.shared_gate_up, weights.shared_down, x.y, y);
  }
  if (weights.output_bias.defined()) y.add_(weights.output_bias);
  return y;
}

at::Tensor FfnBackward(const Pass& pass, const LayerTensors& weights, const Normed& x,
                       const at::Tensor& dy, double balance_scale, const FfnSaved& saved,
                       const LayerTensors& gradients) {
  if (!weights.is_moe()) {
    at::Tensor dx = at::zeros({pass.tokens(), dy.size(1)}, x.rstd.options());
    DenseBackward(pass, weights.gate_up, weights.down, x.y, dy, saved.gate_up, gradients.gate_up,
                  gradients.down, dx);
    return dx;
  }
  ExpertGradients by = ExpertsBackward(pass, weights, x.y, dy, saved, gradients);
  if (weights.shared_gate_up.defined()) {
    DenseBackward(pass, weights.shared_gate_up, weights.shared_down, x.y, dy, saved.shared_gate_up,
                  gradients.shared_gate_up, gradients.shared_down, by.dx);
  }
  if (gradients.output_bias.defined()) {
    gradients.output_bias.add_(at::sum(dy, {0}, /*keepdim=*/false, at::kFloat));
  }
  GateBackward(pass, weights, x.y_fp32, saved.gate, by.dscores, balance_scale, gradients, by.dx);
  return by.dx;
}

}  // namespace moe::model::device
