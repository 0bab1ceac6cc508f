#include "worker/model/device/gate.h"

#include <ATen/ops/argsort.h>
#include <ATen/ops/cumsum.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/gather.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/sum.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>

#include "worker/model/device/linear.h"
#include "worker/model/switch_gate.h"

namespace moe::model::device {

namespace kd = kernels::device;

namespace {

at::Tensor SumOverTokens(const at::Tensor& values_TN) {
  return at::sum(values_TN, {0}, /*keepdim=*/false, at::kDouble);
}

kd::GateForward NoisyTopK(const Pass& pass, const GateOutput& gate) {
  const artefacts::MoeConfig& config = pass.config.moe;
  return {.rows = pass.tokens(),
          .num_experts = static_cast<int32_t>(config.num_experts),
          .top_k = static_cast<int32_t>(config.top_k),
          .load_test = pass.estimator == LoadEstimator::kCompat ? kd::LoadTest::kNoise
                                                                : kd::LoadTest::kNoisyLogit,
          .epsilon = static_cast<float>(config.noise_epsilon),
          .logits = DataOf<float>(gate.logits),
          .noise = DataOf<float>(gate.noise),
          .raw_sigma = DataOf<float>(gate.raw_sigma),
          .z = MutableDataOf<float>(gate.z),
          .order = MutableDataOf<int32_t>(gate.order),
          .scores = MutableDataOf<float>(gate.scores),
          .expert_scores = nullptr,
          .load = nullptr};
}

void RunNoisyTopK(const Pass& pass, const LayerTensors& weights, const at::Tensor& x,
                  GateOutput& gate) {
  const artefacts::MoeConfig& config = pass.config.moe;
  const int64_t T = pass.tokens(), N = config.num_experts, k = config.top_k;
  if (gate.noise.defined()) gate.raw_sigma = Linear(x, weights.noise);
  gate.z = pass.EmptyFp32({T, N});
  gate.order = pass.Empty({T, std::min(k + 1, N)}, at::kInt);
  gate.scores = pass.EmptyFp32({T, k});
  const at::Tensor expert_scores = pass.EmptyFp32({T, N}), load = pass.EmptyFp32({T, N});
  kd::GateForward forward = NoisyTopK(pass, gate);
  forward.expert_scores = MutableDataOf<float>(expert_scores);
  forward.load = MutableDataOf<float>(load);
  pass.kernels.Run(forward);

  gate.importance = SumOverTokens(expert_scores);
  gate.load = SumOverTokens(load);
  gate.dload = pass.EmptyFp32({N});
  pass.kernels.Run(kd::BalanceLoss{.rows = 1,
                                   .num_experts = static_cast<int32_t>(N),
                                   .weight = config.balance_loss_weight,
                                   .importance = DataOf<double>(gate.importance),
                                   .load = DataOf<double>(gate.load),
                                   .loss = MutableDataOf<double>(gate.balance_loss),
                                   .dimportance = MutableDataOf<float>(gate.dimportance),
                                   .dload = MutableDataOf<float>(gate.dload)});
}

// Takes an expert from its tokens with the lowest scores, down to its capacity. The one sort of the
// step, for gates with a capacity alone.
void DropAbove(int64_t capacity, const at::Tensor& load_TN, GateOutput& gate) {
  const at::Tensor scores_T = gate.scores.select(1, 0), order_T = gate.order.select(1, 0);
  const at::Tensor best_first =
      at::argsort(scores_T, /*stable=*/true, /*dim=*/0, /*descending=*/true);
  // How many of the same expert come no later.
  const at::Tensor place_TN = at::cumsum(load_TN.index_select(0, best_first), 0, at::kLong);
  const at::Tensor place_T =
      at::gather(place_TN, 1, order_T.index_select(0, best_first).to(at::kLong).unsqueeze(1))
          .squeeze(1);
  const at::Tensor is_full_T =
      at::zeros_like(place_T).index_copy(0, best_first, place_T).gt(capacity);
  gate.order.masked_fill_(is_full_T.unsqueeze(1), -1);
  gate.scores.masked_fill_(is_full_T.unsqueeze(1), 0);
}

void RunSwitch(const Pass& pass, GateOutput& gate) {
  const artefacts::MoeConfig& config = pass.config.moe;
  const int64_t T = pass.tokens(), N = config.num_experts;
  gate.order = pass.Empty({T, 1}, at::kInt);
  gate.scores = pass.EmptyFp32({T, 1});
  gate.probabilities = pass.EmptyFp32({T, N});
  const at::Tensor load = pass.EmptyFp32({T, N});
  pass.kernels.Run(kd::SwitchForward{.rows = T,
                                     .num_experts = static_cast<int32_t>(N),
                                     .logits = DataOf<float>(gate.logits),
                                     .noise = DataOf<float>(gate.noise),
                                     .order = MutableDataOf<int32_t>(gate.order),
                                     .scores = MutableDataOf<float>(gate.scores),
                                     .probabilities = MutableDataOf<float>(gate.probabilities),
                                     .load = MutableDataOf<float>(load)});
  gate.importance = SumOverTokens(gate.probabilities);
  gate.load = SumOverTokens(load);
  pass.kernels.Run(kd::SwitchBalanceLoss{.rows = 1,
                                         .num_experts = static_cast<int32_t>(N),
                                         .tokens = T,
                                         .weight = config.balance_loss_weight,
                                         .importance = DataOf<double>(gate.importance),
                                         .load = DataOf<double>(gate.load),
                                         .loss = MutableDataOf<double>(gate.balance_loss),
                                         .dimportance = MutableDataOf<float>(gate.dimportance)});
  const int64_t capacity = SwitchCapacity(config, T);
  if (capacity < T) DropAbove(capacity, load, gate);
}

// dy [T, N] = that of a product of x and w: added to dw and dx.
void LinearBackward(const at::Tensor& dy, const at::Tensor& w, const at::Tensor& x,
                    const at::Tensor& dw, const at::Tensor& dx) {
  AddProduct(dy.t(), x, dw);
  AddProduct(dy, w, dx);
}

}  // namespace

GateOutput Gate(const Pass& pass, const LayerTensors& weights, const at::Tensor& x,
                const at::Tensor& noise) {
  GateOutput gate;
  gate.noise = noise;
  gate.balance_loss = pass.Empty({1}, at::kDouble);
  gate.dimportance = pass.EmptyFp32({pass.config.moe.num_experts});
  gate.logits = Linear(x, weights.router_0);
  if (weights.router_2.defined()) {
    gate.hidden = at::tanh(gate.logits);
    gate.logits = Linear(gate.hidden, weights.router_2);
  }
  if (pass.config.moe.is_switch()) {
    RunSwitch(pass, gate);
  } else {
    RunNoisyTopK(pass, weights, x, gate);
  }
  return gate;
}

void GateBackward(const Pass& pass, const LayerTensors& weights, const at::Tensor& x,
                  const GateOutput& gate, const at::Tensor& dscores, double balance_scale,
                  const LayerTensors& gradients, const at::Tensor& dx) {
  const at::Tensor dlogits = at::empty_like(gate.logits);
  if (pass.config.moe.is_switch()) {
    pass.kernels.Run(
        kd::SwitchBackward{.rows = pass.tokens(),
                           .num_experts = static_cast<int32_t>(pass.config.moe.num_experts),
                           .balance_scale = static_cast<float>(balance_scale),
                           .order = DataOf<int32_t>(gate.order),
                           .probabilities = DataOf<float>(gate.probabilities),
                           .dscores = DataOf<float>(dscores),
                           .dimportance = DataOf<float>(gate.dimportance),
                           .dlogits = MutableDataOf<float>(dlogits)});
  } else {
    at::Tensor draw_sigma;
    if (gate.noise.defined()) draw_sigma = at::empty_like(gate.logits);
    pass.kernels.Run(kd::GateBackward{.forward = NoisyTopK(pass, gate),
                                      .rows = pass.tokens(),
                                      .balance_scale = static_cast<float>(balance_scale),
                                      .dscores = DataOf<float>(dscores),
                                      .dimportance = DataOf<float>(gate.dimportance),
                                      .dload = DataOf<float>(gate.dload),
                                      .dlogits = MutableDataOf<float>(dlogits),
                                      .draw_sigma = MutableDataOf<float>(draw_sigma)});
    if (draw_sigma.defined()) LinearBackward(draw_sigma, weights.noise, x, gradients.noise, dx);
  }
  if (!weights.router_2.defined()) {
    LinearBackward(dlogits, weights.router_0, x, gradients.router_0, dx);
    return;
  }
  AddProduct(dlogits.t(), gate.hidden, gradients.router_2);
  const at::Tensor dhidden =
      at::mm(dlogits, weights.router_2).mul_(gate.hidden.square().neg_().add_(1));
  LinearBackward(dhidden, weights.router_0, x, gradients.router_0, dx);
}

at::Tensor DrawNoise(const Pass& pass, const NoiseContext& context, int64_t layer) {
  const int64_t N = pass.config.moe.num_experts;
  at::Tensor noise = pass.EmptyFp32({pass.tokens(), N});
  pass.kernels.Run(kd::DrawNoise{.rows = pass.tokens(),
                                 .num_experts = static_cast<int32_t>(N),
                                 .seed = context.seed,
                                 .layer = static_cast<uint32_t>(layer),
                                 .first_sample = context.first_sample,
                                 .samples = DataOf<int32_t>(pass.batch.samples),
                                 .positions = DataOf<int32_t>(pass.batch.positions),
                                 .noise = MutableDataOf<float>(noise)});
  return noise;
}

}  // namespace moe::model::device
