#include "worker/construction/residual_stream.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/silu.h>
#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "worker/construction/rows.h"
#include "worker/kernels/buffer.h"
#include "worker/kernels/rms_norm.h"
#include "worker/model/arena.h"
#include "worker/model/lm_head.h"
#include "worker/model/rope_frequencies.h"

namespace moe::construction {

DenseModel::DenseModel(const artefacts::ModelConfig& config, const at::Tensor& parameters,
                       int64_t sequence_length)
    : config_(config),
      parameters_(parameters),
      layout_(config),
      rope_(sequence_length, model::RopeFrequencies(config, sequence_length)) {}

at::Tensor DenseModel::Weight(const std::string& name) const {
  return model::View(parameters_, layout_.Find(name));
}

at::Tensor DenseModel::LayerWeight(int64_t layer, const std::string& name) const {
  return Weight(fmt::format("layers.{}.{}", layer, name));
}

at::Tensor DenseModel::Neurons(int64_t layer, const at::Tensor& x_Td) const {
  const int64_t I = config_.intermediate_size;
  const at::Tensor gate_up = LayerWeight(layer, "gate_up");
  at::Tensor h = at::silu(at::mm(x_Td, gate_up.narrow(0, 0, I).t()));
  return h.mul_(at::mm(x_Td, gate_up.narrow(0, I, I).t()));
}

at::Tensor DenseModel::Output(int64_t layer, const at::Tensor& x_Td) const {
  return at::mm(Neurons(layer, x_Td), LayerWeight(layer, "down").t());
}

ResidualStream::ResidualStream(const DenseModel& model, const at::Tensor& tokens_BS)
    : model_(&model),
      tokens_BS_(tokens_BS),
      x_Td_(at::embedding(model.Weight("embed"), tokens_BS.reshape({-1}))) {}

ResidualStream ResidualStream::Some(const std::vector<int64_t>& samples) const {
  ResidualStream some = *this;
  some.tokens_BS_ = Rows(tokens_BS_, samples);
  some.x_Td_ = SamplesOf(x_Td_, tokens_BS_.size(0), samples);
  return some;
}

at::Tensor ResidualStream::Attend(int64_t layer) {
  const artefacts::ModelConfig& config = model_->config();
  const int64_t T = tokens_BS_.numel(), d = config.hidden_size;
  std::vector<int32_t> positions;
  for (int64_t t = 0; t < T; ++t) {
    positions.push_back(static_cast<int32_t>(t % tokens_BS_.size(1)));
  }
  const model::LayerShape shape{.config = config,
                                .estimator = model::LoadEstimator::kCorrect,
                                .rope = model_->rope_,
                                .positions = positions,
                                .attention = {.batch = tokens_BS_.size(0),
                                              .sequence = tokens_BS_.size(1),
                                              .heads = config.num_heads,
                                              .kv_heads = config.num_kv_heads,
                                              .head_dim = config.head_dim}};
  const auto weight = [&](const char* name) {
    return model_->LayerWeight(layer, name).const_data_ptr<float>();
  };
  const model::LayerWeights<float> weights{.attn_norm = weight("attn_norm"),
                                           .qkv = weight("qkv"),
                                           .attn_out = weight("attn_out"),
                                           .ffn_norm = weight("ffn_norm"),
                                           .ffn = {}};
  model::LayerSaved<float> saved;
  model::LayerScratch<float> scratch;
  std::copy_n(x_Td_.const_data_ptr<float>(), T * d, saved.x.Reserve(T * d));
  AttentionHalfForward(shape, weights, saved, scratch);
  std::copy_n(saved.x_mid.data(), T * d, x_Td_.mutable_data_ptr<float>());

  at::Tensor normed_Td = at::empty_like(x_Td_);
  kernels::RmsNormForward(x_Td_.const_data_ptr<float>(), weights.ffn_norm, T, d,
                          static_cast<float>(config.rms_norm_eps),
                          normed_Td.mutable_data_ptr<float>(), saved.ffn_rstd.Reserve(T));
  return normed_Td;
}

void ResidualStream::Add(const at::Tensor& y_Td) { x_Td_.add_(y_Td); }

void ResidualStream::PassDense(int64_t layer) {
  const at::Tensor x_Td = Attend(layer);
  Add(model_->Output(layer, x_Td));
}

double ResidualStream::MeanLoss() const {
  const artefacts::ModelConfig& config = model_->config();
  const int64_t S = tokens_BS_.size(1), T = tokens_BS_.numel(), d = config.hidden_size;
  const int64_t* tokens = tokens_BS_.const_data_ptr<int64_t>();
  std::vector<int64_t> targets(T, -1);
  for (int64_t t = 0; t < T; ++t) {
    if ((t + 1) % S != 0) targets[t] = tokens[t + 1];
  }
  kernels::Buffer<float> normed, rstd, losses;
  model::LmHeadScratch<float> scratch;
  kernels::RmsNormForward(
      x_Td_.const_data_ptr<float>(), model_->Weight("norm").const_data_ptr<float>(), T, d,
      static_cast<float>(config.rms_norm_eps), normed.Reserve(T * d), rstd.Reserve(T));
  const at::Tensor head = model_->Weight(config.tie_word_embeddings ? "embed" : "lm_head");
  model::LmHeadLoss(normed.data(), head.const_data_ptr<float>(), targets.data(), T, d,
                    config.vocab_size, scratch, losses.Reserve(T));
  double sum = 0;
  for (int64_t t = 0; t < T; ++t) sum += losses.data()[t];
  return sum / static_cast<double>(T - T / S);
}

}  // namespace moe::construction
