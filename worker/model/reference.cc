#include "worker/model/reference.h"

// The one file where the short way matters more than the time to compile.
#include <ATen/ATen.h>

#include <cmath>
#include <string>

#include "worker/model/gate.h"
#include "worker/model/rope_frequencies.h"
#include "worker/model/switch_gate.h"

namespace moe::model::reference {
namespace {

using artefacts::ModelConfig;

at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight) {
  return at::matmul(x, weight.t());
}

at::Tensor RmsNorm(const at::Tensor& x, const at::Tensor& weight, double eps) {
  return x * at::rsqrt(x.pow(2).mean(-1, /*keepdim=*/true) + eps) * weight;
}

at::Tensor SwiGlu(const at::Tensor& gate_up) {
  const std::vector<at::Tensor> halves = gate_up.chunk(2, -1);
  return at::silu(halves[0]) * halves[1];
}

// x [B, heads, S, hd]
at::Tensor Rope(const ModelConfig& config, const at::Tensor& x) {
  const std::vector<double> frequencies = RopeFrequencies(config, x.size(2));
  const at::Tensor frequency = at::tensor(frequencies, at::kDouble);
  const at::Tensor angle = at::outer(at::arange(x.size(2), at::kDouble), frequency);
  const at::Tensor cos = angle.cos().to(x.scalar_type()), sin = angle.sin().to(x.scalar_type());
  const std::vector<at::Tensor> halves = x.chunk(2, -1);
  return at::cat({halves[0] * cos - halves[1] * sin, halves[1] * cos + halves[0] * sin}, -1);
}

// document_BS: see Forward; may be undefined.
at::Tensor Attention(const ModelConfig& config, const at::Tensor& x_BSd,
                     const at::Tensor& qkv_weight, const at::Tensor& out_weight,
                     const at::Tensor& document_BS) {
  const int64_t B = x_BSd.size(0), S = x_BSd.size(1), H = config.num_heads, K = config.num_kv_heads,
                hd = config.head_dim;
  const at::Tensor qkv =
      Linear(x_BSd, qkv_weight).view({B, S, H + 2 * K, hd}).transpose(1, 2);  // [B, heads, S, hd]
  const at::Tensor q = Rope(config, qkv.narrow(1, 0, H));
  const at::Tensor k = Rope(config, qkv.narrow(1, H, K)).repeat_interleave(H / K, /*dim=*/1);
  const at::Tensor v = qkv.narrow(1, H + K, K).repeat_interleave(H / K, /*dim=*/1);

  at::Tensor hidden = at::ones({S, S}, at::TensorOptions().dtype(at::kBool)).triu(/*diagonal=*/1);
  if (document_BS.defined()) {
    const at::Tensor is_other = document_BS.unsqueeze(1) != document_BS.unsqueeze(2);  // [B, S, S]
    hidden = (hidden | is_other).unsqueeze(1);
  }
  const at::Tensor scores = at::matmul(q, k.transpose(2, 3)) / std::sqrt(static_cast<double>(hd));
  const at::Tensor p = at::softmax(scores.masked_fill(hidden, -INFINITY), -1);
  return Linear(at::matmul(p, v).transpose(1, 2).reshape({B, S, H * hd}), out_weight);
}

at::Tensor CvSquared(const at::Tensor& v) {
  if (v.numel() < 2) return at::zeros({}, v.options());
  return v.var(/*unbiased=*/true) / (v.mean().pow(2) + 1e-10);
}

at::Tensor NormalCdf(const at::Tensor& u) { return 0.5 * (1 + at::erf(u / std::sqrt(2.0))); }

// One expert per token (worker/model/switch_gate.h).
GateOutput SwitchGate(const artefacts::MoeConfig& config, const at::Tensor& g_TN,
                      const at::Tensor& standard_normal_TN) {
  const int64_t T = g_TN.size(0), N = config.num_experts;
  at::Tensor z_TN = g_TN;
  if (standard_normal_TN.defined()) {
    const at::Tensor below = 0.5 * at::erfc(-standard_normal_TN.to(at::kDouble) / std::sqrt(2.0));
    z_TN = g_TN - at::log(-at::log(below)).to(g_TN.scalar_type());
  }
  GateOutput out;
  const auto [best_T, index_T] = z_TN.max(1);
  out.indices_Tk = index_T.unsqueeze(1);
  const at::Tensor chosen_TN = at::one_hot(index_T, N).to(g_TN.scalar_type());
  out.load_N = chosen_TN.mean(0);
  out.importance_N = at::softmax(g_TN, 1).mean(0);
  out.balance_loss =
      config.balance_loss_weight * static_cast<double>(N) * (out.importance_N * out.load_N).sum();
  // How many tokens of the same expert score higher, or as high and come first.
  const at::Tensor order_T = best_T.argsort(/*stable=*/true, /*dim=*/0, /*descending=*/true);
  const at::Tensor rank_TN = chosen_TN.index_select(0, order_T).cumsum(0);
  const at::Tensor rank_T =
      (chosen_TN * at::zeros_like(rank_TN).index_copy(0, order_T, rank_TN)).sum(1);
  const at::Tensor is_kept_T = rank_T <= static_cast<double>(SwitchCapacity(config, T));
  out.scores_Tk = (best_T * is_kept_T).unsqueeze(1);
  return out;
}

}  // namespace

GateOutput Gate(const artefacts::MoeConfig& config, LoadEstimator estimator,
                const GateWeights& weights, const at::Tensor& x_Td,
                const at::Tensor& standard_normal_TN) {
  const int64_t N = config.num_experts, k = config.top_k;
  at::Tensor g = Linear(x_Td, weights.router_0);
  if (weights.router_2.defined()) g = Linear(at::tanh(g), weights.router_2);
  if (config.is_switch()) return SwitchGate(config, g, standard_normal_TN);
  at::Tensor z = g, noise, sigma;
  if (standard_normal_TN.defined()) {
    sigma = at::softplus(Linear(x_Td, weights.noise)) + config.noise_epsilon;
    noise = standard_normal_TN * sigma;
    z = g + noise;
  }
  const auto [top_z, top_indices] = z.topk(std::min(k + 1, N), -1);

  GateOutput out;
  out.indices_Tk = top_indices.narrow(1, 0, k);
  out.scores_Tk = at::softmax(top_z.narrow(1, 0, k), -1);
  out.importance_N = at::zeros_like(z).scatter(1, out.indices_Tk, out.scores_Tk).sum(0);
  if (standard_normal_TN.defined() && k < N) {
    const at::Tensor runner_up = top_z.narrow(1, k, 1), last_in = top_z.narrow(1, k - 1, 1);
    const at::Tensor is_in = (estimator == LoadEstimator::kCompat ? noise : z) > runner_up;
    out.load_N = NormalCdf(at::where(is_in, (g - runner_up) / sigma, (g - last_in) / sigma)).sum(0);
  } else {
    out.load_N = at::zeros_like(z)
                     .scatter(1, out.indices_Tk, (out.scores_Tk > 0).to(z.scalar_type()))
                     .sum(0);
  }
  out.balance_loss =
      config.balance_loss_weight * (CvSquared(out.importance_N) + CvSquared(out.load_N));
  return out;
}

at::Tensor Experts(const artefacts::MoeConfig& config, const GateOutput& gate,
                   const at::Tensor& gate_up, const at::Tensor& down, const at::Tensor& x_Td) {
  at::Tensor y = at::zeros_like(x_Td);
  for (int64_t e = 0; e < config.num_experts; ++e) {
    // [T, 1]: the expert's score where it was chosen, else 0.
    const at::Tensor weight =
        at::where(gate.indices_Tk == e, gate.scores_Tk, at::zeros_like(gate.scores_Tk))
            .sum(1, /*keepdim=*/true);
    const at::Tensor expert = Linear(SwiGlu(Linear(x_Td, gate_up[e])), down[e]);
    y = y + weight * expert;
  }
  return y;
}

Output Forward(const ModelConfig& config, const ParameterLayout& layout, LoadEstimator estimator,
               const at::Tensor& parameters, const at::Tensor& tokens_BS, const NoiseContext* noise,
               const at::Tensor& document_BS) {
  auto find = [&](const std::string& name) {
    if (!layout.Has(name)) return at::Tensor();
    const Parameter& parameter = layout.Find(name);
    return parameters.narrow(0, parameter.offset, parameter.numel).view(parameter.shape);
  };
  const int64_t B = tokens_BS.size(0), S = tokens_BS.size(1), d = config.hidden_size;

  Output out;
  out.balance_loss = at::zeros({}, parameters.options());
  const at::Tensor embed = find("embed");
  at::Tensor x = at::embedding(embed, tokens_BS);  // [B, S, d]
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string layer = "layers." + std::to_string(i) + ".";
    x = x + Attention(config, RmsNorm(x, find(layer + "attn_norm"), config.rms_norm_eps),
                      find(layer + "qkv"), find(layer + "attn_out"), document_BS);
    const at::Tensor h = RmsNorm(x, find(layer + "ffn_norm"), config.rms_norm_eps);
    if (!config.is_moe_layer(i)) {
      x = x + Linear(SwiGlu(Linear(h, find(layer + "gate_up"))), find(layer + "down"));
      continue;
    }
    at::Tensor draws;
    if (noise != nullptr && config.moe.add_noise) {
      draws = at::empty({B * S, config.moe.num_experts}, at::kFloat);
      DrawGateNoise(*noise, i, B, S, config.moe.num_experts, draws.data_ptr<float>());
      draws = draws.to(parameters.scalar_type());
    }
    const at::Tensor h_Td = h.reshape({B * S, d});
    const GateOutput gate = Gate(
        config.moe, estimator,
        {find(layer + "router.0"), find(layer + "router.2"), find(layer + "noise")}, h_Td, draws);
    const at::Tensor routed = Experts(config.moe, gate, find(layer + "experts.gate_up"),
                                      find(layer + "experts.down"), h_Td);
    const at::Tensor scale = find(layer + "scale");
    at::Tensor y = scale.defined() ? routed * scale : routed * config.moe.ScaleFactor(i);
    if (const at::Tensor gate_up = find(layer + "shared.gate_up"); gate_up.defined()) {
      y = y + Linear(SwiGlu(Linear(h_Td, gate_up)), find(layer + "shared.down"));
    }
    if (const at::Tensor bias = find(layer + "output_bias"); bias.defined()) y = y + bias;
    x = x + y.view({B, S, d});
    out.balance_loss = out.balance_loss + gate.balance_loss;
    out.gates.push_back(gate);
  }
  x = RmsNorm(x, find("norm"), config.rms_norm_eps);
  out.logits_BSV = Linear(x, config.tie_word_embeddings ? embed : find("lm_head"));
  if (S > 1) {
    out.mean_loss =
        at::cross_entropy_loss(out.logits_BSV.narrow(1, 0, S - 1).reshape({-1, config.vocab_size}),
                               tokens_BS.narrow(1, 1, S - 1).reshape({-1}));
  }
  return out;
}

}  // namespace moe::model::reference
