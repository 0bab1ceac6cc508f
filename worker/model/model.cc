#include "worker/model/model.h"

#include <ATen/ops/empty.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>

#include "worker/kernels/buffer.h"
#include "worker/kernels/convert.h"
#include "worker/kernels/gemm.h"
#include "worker/kernels/parallel.h"
#include "worker/kernels/rms_norm.h"
#include "worker/kernels/rope.h"
#include "worker/model/decoder_layer.h"
#include "worker/model/device/model.h"
#include "worker/model/gate.h"
#include "worker/model/lm_head.h"
#include "worker/model/model_impl.h"
#include "worker/model/rope_frequencies.h"

namespace moe::model {
namespace {

using artefacts::ModelConfig;
using kernels::Buffer;

void CheckConfig(const ModelConfig& config) {
  auto require = [](bool holds, const std::string& problem) {
    if (!holds) throw std::invalid_argument("model config: " + problem);
  };
  require(config.num_kv_heads > 0 && config.num_heads % config.num_kv_heads == 0,
          fmt::format("num_heads={} is not a multiple of num_kv_heads={}", config.num_heads,
                      config.num_kv_heads));
  require(config.head_dim > 0 && config.head_dim % 2 == 0,
          fmt::format("head_dim={} must be even for rotary positions", config.head_dim));
  if (!config.is_moe()) return;
  require(config.moe.top_k > 0 && config.moe.top_k <= config.moe.num_experts,
          fmt::format("top_k={} must be in 1..num_experts={}", config.moe.top_k,
                      config.moe.num_experts));
  require(config.moe.num_experts <= 256,
          fmt::format("num_experts={} is above 256, the most the gate's noise is numbered for",
                      config.moe.num_experts));
}

void CheckBatch(const Batch& batch, const ModelConfig& config) {
  if (batch.num_tokens() == 0) {
    throw std::invalid_argument(
        fmt::format("a batch of {} samples without tokens is empty", batch.num_samples()));
  }
  int64_t begin = 0;
  for (int64_t b = 0; b < batch.num_samples(); begin = batch.ends[b++]) {
    const int64_t length = batch.ends[b] - begin;
    if (length < 1 || (config.context_length > 0 && length > config.context_length)) {
      throw std::invalid_argument(
          fmt::format("sample {} has {} tokens; it must have 1 to the model's context of {}", b,
                      length, config.context_length));
    }
    for (int64_t t = begin; t < batch.ends[b]; ++t) {
      const int64_t id = batch.tokens[t], target = batch.targets[t];
      if (id >= 0 && id < config.vocab_size && target < config.vocab_size) continue;
      throw std::invalid_argument(
          fmt::format("token {} of sample {} is {} with target {}, outside the vocabulary of {}: "
                      "was the dataset prepared with another tokenizer?",
                      t - begin, b, id, target, config.vocab_size));
    }
  }
  if (begin != batch.num_tokens() || batch.targets.size() != batch.tokens.size()) {
    throw std::invalid_argument(fmt::format("samples end at token {} of {}, with {} targets", begin,
                                            batch.num_tokens(), batch.targets.size()));
  }
}

// That documents fill the samples: they ascend, and each sample ends where a document does.
void CheckDocuments(const Batch& batch) {
  size_t sample = 0;
  int64_t begin = 0;
  for (const int64_t end : batch.document_ends) {
    if (end <= begin || sample == batch.ends.size() || end > batch.ends[sample]) break;
    if (end == batch.ends[sample]) ++sample;
    begin = end;
  }
  if (batch.document_ends.empty() || begin == batch.num_tokens()) return;
  throw std::invalid_argument(
      fmt::format("after token {} of {} the documents of the batch do not ascend to the ends of "
                  "its samples",
                  begin, batch.num_tokens()));
}

}  // namespace

double BatchResult::MeanLoss() const {
  double sum = 0;
  for (double loss : sample_loss_sum) sum += loss;
  return sum / static_cast<double>(num_targets);
}

Tokens::Tokens(const Batch& batch, const ModelConfig& config) : batch(batch) {
  CheckBatch(batch, config);
  CheckDocuments(batch);
  places = PlacesOf(batch.ends);
  for (const TokenPlace& place : places) {
    positions.push_back(place.position);
    longest = std::max<int64_t>(longest, place.position + 1);
  }
}

Model::Impl::Impl(const ModelConfig& config, const ModelOptions& options)
    : config_(config), options_(options), layout_(config, options.experts) {
  CheckConfig(config);
}

void Model::Impl::ShareExperts(std::unique_ptr<parallel::Communicator> group) {
  if (group->world_size() != layout_.share().count || group->rank() != layout_.share().index) {
    throw std::invalid_argument(fmt::format(
        "rank {} of a group of {} cannot be the one with part {} of {} of the experts",
        group->rank(), group->world_size(), layout_.share().index, layout_.share().count));
  }
  exchange_.emplace(std::move(group), config_.moe.num_experts);
}

void Model::Impl::AddLosses(const Batch& batch, const float* losses, BatchResult& result) {
  result.num_targets = batch.num_targets();
  int64_t t = 0;
  for (const int64_t end : batch.ends) {
    double& sum = result.sample_loss_sum.emplace_back(0.0);
    for (; t < end; ++t) sum += losses[t];
  }
}

void Model::Impl::AddDenseRouting(BatchResult& result) const {
  const size_t N = static_cast<size_t>(config_.moe.num_experts);
  result.routing.push_back({.load = std::vector<int64_t>(N), .importance = std::vector<double>(N)});
}

const char* Model::Impl::HeadName() const {
  return config_.tie_word_embeddings ? "embed" : "lm_head";
}

std::string Model::Impl::ScaleName(int64_t layer) {
  return "layers." + std::to_string(layer) + ".scale";
}

namespace {

void CheckArena(const at::Tensor& arena, const ParameterLayout& layout, at::Device device,
                const char* what) {
  if (arena.dim() != 1 || arena.scalar_type() != at::kFloat || !arena.is_contiguous() ||
      arena.device().type() != device.type() || arena.numel() != layout.arena_numel()) {
    throw std::invalid_argument(
        fmt::format("{} must be a contiguous fp32 tensor of {} elements on {}, not {} of {} on {}",
                    what, layout.arena_numel(), device.str(), arena.numel(),
                    c10::toString(arena.scalar_type()), arena.device().str()));
  }
}

// Every parameter's place in arenas of Master (norms, gate, embedding lookup) and of Compute.
template <typename Master, typename Compute>
struct ModelArena {
  Master* master;
  Compute* compute;
  const ParameterLayout& layout;

  bool Has(const std::string& name) const { return layout.Has(name); }
  Master* M(const std::string& name) const {
    return Has(name) ? master + layout.Find(name).offset : nullptr;
  }
  Compute* C(const std::string& name) const {
    return Has(name) ? compute + layout.Find(name).offset : nullptr;
  }
};

// Fills LayerWeights or LayerGradients, whose fields have the same names.
template <typename Layer, typename Arena>
Layer FindLayer(const Arena& arena, const ModelConfig& config, int64_t index) {
  const std::string prefix = "layers." + std::to_string(index) + ".";
  const std::string ffn = config.is_moe_layer(index) ? prefix + "experts." : prefix;
  Layer layer;
  layer.attn_norm = arena.M(prefix + "attn_norm");
  layer.qkv = arena.C(prefix + "qkv");
  layer.attn_out = arena.C(prefix + "attn_out");
  layer.ffn_norm = arena.M(prefix + "ffn_norm");
  layer.ffn.gate_up = arena.C(ffn + "gate_up");
  layer.ffn.down = arena.C(ffn + "down");
  layer.ffn.gate.router_0 = arena.M(prefix + "router.0");
  layer.ffn.gate.router_2 = arena.M(prefix + "router.2");
  layer.ffn.gate.noise = arena.M(prefix + "noise");
  layer.ffn.shared_gate_up = arena.C(prefix + "shared.gate_up");
  layer.ffn.shared_down = arena.C(prefix + "shared.down");
  layer.ffn.output_bias = arena.M(prefix + "output_bias");
  return layer;
}

template <typename Float>
class TypedModel final : public Model::Impl {
 public:
  using Impl::Impl;

  void SetParameters(const at::Tensor& parameters) override {
    if (layout_.share().count > 1 && !exchange_.has_value()) {
      throw std::logic_error("ShareExperts comes before SetParameters");
    }
    parameters_ = parameters;
    const ModelArena<const float, const Float> arena{Master(), Compute(), layout_};
    embed_ = arena.M("embed");
    norm_ = arena.M("norm");
    head_ = arena.C(HeadName());
    layers_.clear();
    for (int64_t i = 0; i < config_.num_layers; ++i) {
      layers_.push_back(FindLayer<LayerWeights<Float>>(arena, config_, i));
      if (exchange_.has_value()) layers_.back().ffn.exchange = &*exchange_;
    }
    for (int64_t i = -1; i <= config_.num_layers; ++i) RefreshLayer(i);
  }

  void RefreshLayer(int64_t layer) override {
    if constexpr (!std::is_same_v<Float, float>) {
      constexpr int64_t kRow = kParameterAlignment;  // ranges begin and end at a multiple of it
      for (const Region region : kRegions) {
        const ParameterLayout::Range range = layout_.LayerRange(layer, region);
        kernels::ConvertRows(Master() + range.begin, kRow, (range.end - range.begin) / kRow, kRow,
                             compute_copy_.data() + range.begin, kRow);
      }
    }
    const bool is_between = layer >= 0 && layer < config_.num_layers;  // embedding and head
    if (!is_between || !config_.is_moe_layer(layer)) return;
    const float* learned =
        ModelArena<const float, const Float>{Master(), Compute(), layout_}.M(ScaleName(layer));
    layers_[layer].ffn.scale =
        learned != nullptr ? *learned : static_cast<float>(config_.moe.ScaleFactor(layer));
  }

  BatchResult ForwardBackward(const Batch& batch, const NoiseContext& noise, const LossScale& scale,
                              at::Tensor& gradients, const PassHooks& hooks) override {
    const Tokens tokens(batch, config_);
    const int64_t T = tokens.count(), d = config_.hidden_size;
    if (exchange_.has_value()) exchange_->set_on_wait(hooks.around_wait);
    Forward(tokens, &noise, /*keep=*/true, hooks.before_parameters);
    const auto complete = [&](int64_t layer) {
      if (hooks.after_gradients) hooks.after_gradients(layer);
    };
    BatchResult result = Result();

    float* const sums = gradients.mutable_data_ptr<float>();
    const ModelArena<float, float> arena{sums, sums, layout_};
    Float* h = FinalNorm(T);
    float* dh = scratch_.dnormed.Reserve(T * d);
    float* losses = losses_.Reserve(T);
    LmHeadLossBackward(h, head_, batch.targets.data(), T, d, config_.vocab_size,
                       static_cast<float>(scale.target), head_scratch_, losses, dh,
                       arena.M(HeadName()));
    AddLosses(batch, losses, result);

    float* dx = dx_.Reserve(T * d);
    std::fill_n(dx, T * d, 0.0f);
    kernels::RmsNormBackward(dh, final_x_.data(), norm_, final_rstd_.data(), T, d, dx,
                             arena.M("norm"));
    complete(config_.num_layers);
    const LayerShape shape = Shape(tokens);
    for (int64_t i = config_.num_layers - 1; i >= 0; --i) {
      LayerGradients layer = FindLayer<LayerGradients>(arena, config_, i);
      layer.ffn.scale = arena.M(ScaleName(i));
      LayerBackward(shape, layers_[i], scale.balance, saved_[i], scratch_, layer, dx);
      if constexpr (std::is_same_v<Float, float>) Observe(i, T);
      complete(i);
    }
    EmbedBackward(tokens, dx, arena.M("embed"));
    complete(-1);
    if (exchange_.has_value()) exchange_->set_on_wait(nullptr);
    return result;
  }

  BatchResult Evaluate(const Batch& batch) override {
    const Tokens tokens(batch, config_);
    Forward(tokens, /*noise=*/nullptr, /*keep=*/false);
    BatchResult result = std::move(evaluated_);
    const int64_t T = tokens.count();
    float* losses = losses_.Reserve(T);
    LmHeadLoss(FinalNorm(T), head_, batch.targets.data(), T, config_.hidden_size,
               config_.vocab_size, head_scratch_, losses);
    AddLosses(batch, losses, result);
    return result;
  }

  void ObserveDenseFfns(std::function<void(const FfnActivations&)> observer) override {
    if constexpr (std::is_same_v<Float, float>) {
      observer_ = std::move(observer);
    } else {
      throw std::invalid_argument("activations can be observed in a model that computes in fp32");
    }
  }

  at::Tensor Logits(const Batch& batch) override {
    const Tokens tokens(batch, config_);
    Forward(tokens, /*noise=*/nullptr, /*keep=*/false);
    const int64_t T = tokens.count(), d = config_.hidden_size, V = config_.vocab_size;
    at::Tensor logits = at::empty({T, V}, at::kFloat);
    kernels::Gemm(kernels::Matrix<const Float>(FinalNorm(T), T, d),
                  kernels::Matrix<const Float>(head_, V, d).Transposed(),
                  kernels::Output::kOverwrite,
                  kernels::Matrix<float>(logits.data_ptr<float>(), T, V));
    return logits;
  }

 private:
  // After the layer's backward, whose scratch still holds what its FFN computed.
  void Observe(int64_t layer, int64_t tokens) {
    if (!observer_ || config_.is_moe_layer(layer)) return;
    const FfnScratch<Float>& scratch = scratch_.ffn;
    observer_({.layer = layer,
               .tokens = tokens,
               .width = config_.intermediate_size,
               .h = scratch.h.data(),
               .dh = scratch.dh.data(),
               .gate_up = saved_[layer].ffn.gate_up.data(),
               .dgate_up = scratch.dgate_up.data()});
  }

  const float* Master() const { return parameters_.const_data_ptr<float>(); }
  // Room for the parameters in the type of the products; RefreshLayer fills it.
  const Float* Compute() {
    if constexpr (std::is_same_v<Float, float>) {
      return Master();
    } else {
      return compute_copy_.Reserve(layout_.arena_numel());
    }
  }

  LayerShape Shape(const Tokens& tokens) const {
    return {.config = config_,
            .estimator = options_.load_estimator,
            .rope = *rope_,
            .positions = tokens.positions,
            .attention = {.batch = std::ssize(tokens.batch.attention_ends()),
                          .heads = config_.num_heads,
                          .kv_heads = config_.num_kv_heads,
                          .head_dim = config_.head_dim,
                          .ends = tokens.batch.attention_ends()}};
  }

  // Angles for as many positions. Those of "dynamic" scaling depend on that number.
  void MakeRope(int64_t positions) {
    const bool depends = config_.rope_scaling.type == "dynamic";
    if (rope_ != nullptr &&
        (depends ? rope_->positions == positions : rope_->positions >= positions)) {
      return;
    }
    rope_ = std::make_unique<kernels::RopeTable>(positions, RopeFrequencies(config_, positions));
  }

  // Embedding and all layers; the result is in final_x_. Without `keep`, all layers share the first
  // one's room and what the evaluation reports is collected on the way.
  void Forward(const Tokens& tokens, const NoiseContext* noise, bool keep,
               const std::function<void(int64_t)>& before_parameters = nullptr) {
    if (layers_.empty() && config_.num_layers > 0) {
      throw std::logic_error("SetParameters comes before the first batch");
    }
    const int64_t T = tokens.count(), d = config_.hidden_size, L = config_.num_layers;
    const int64_t N = config_.moe.num_experts;
    const auto announce = [&](int64_t layer) {
      if (before_parameters) before_parameters(layer);
    };
    MakeRope(tokens.longest);
    saved_.resize(std::max<size_t>(saved_.size(), keep ? L : 1));
    evaluated_ = {};

    announce(-1);
    float* final_x = final_x_.Reserve(T * d);
    float* x = L > 0 ? saved_[0].x.Reserve(T * d) : final_x;
    for (int64_t t = 0; t < T; ++t) {
      std::memcpy(x + t * d, embed_ + tokens.batch.tokens[t] * d, d * sizeof(float));
    }
    const LayerShape shape = Shape(tokens);
    for (int64_t i = 0; i < L; ++i) {
      announce(i);
      const float* drawn = nullptr;
      if (noise != nullptr && config_.is_moe_layer(i) && config_.moe.add_noise) {
        float* draws = noise_.Reserve(T * N);
        DrawGateNoise(*noise, i, tokens.places, N, draws);
        drawn = draws;
      }
      LayerSaved<Float>& saved = saved_[keep ? i : 0];
      const bool is_last = i + 1 == L;
      float* y = final_x;
      if (!is_last && keep) y = saved_[i + 1].x.Reserve(T * d);
      LayerForward(shape, layers_[i], drawn, saved, scratch_, y);
      if (!keep) {
        AddRouting(i, saved.ffn.gate, evaluated_);
        if (!is_last) std::copy_n(y, T * d, saved.x.data());
      }
    }
    announce(L);
    kernels::RmsNormForward(final_x, norm_, T, d, static_cast<float>(config_.rms_norm_eps),
                            scratch_.normed.Reserve(T * d), final_rstd_.Reserve(T));
  }

  // Where Forward left the output of the last norm.
  Float* FinalNorm(int64_t tokens) { return scratch_.normed.Reserve(tokens * config_.hidden_size); }

  BatchResult Result() const {
    BatchResult result;
    for (int64_t i = 0; i < config_.num_layers; ++i) AddRouting(i, saved_[i].ffn.gate, result);
    return result;
  }

  void AddRouting(int64_t layer, const GateResult& gate, BatchResult& result) const {
    if (!config_.is_moe()) return;
    if (!config_.is_moe_layer(layer)) return AddDenseRouting(result);
    result.balance_loss += gate.balance_loss;
    result.routing.push_back({.load = gate.routed,
                              .importance = gate.importance,
                              .dropped = std::ranges::count(gate.indices, kNoExpert)});
  }

  // Threads split the columns, so that a token that occurs twice has one order of addition.
  void EmbedBackward(const Tokens& tokens, const float* dx, float* dembed) const {
    const int64_t d = config_.hidden_size;
    kernels::ParallelFor(d, 64, [&](int64_t begin, int64_t end) {
      for (int64_t t = 0; t < tokens.count(); ++t) {
        const float* from = dx + t * d;
        float* to = dembed + tokens.batch.tokens[t] * d;
        for (int64_t i = begin; i < end; ++i) to[i] += from[i];
      }
    });
  }

  at::Tensor parameters_;  // keeps the arena alive
  Buffer<Float> compute_copy_;
  const float* embed_ = nullptr;
  const float* norm_ = nullptr;
  const Float* head_ = nullptr;
  std::vector<LayerWeights<Float>> layers_;

  std::unique_ptr<kernels::RopeTable> rope_;
  std::vector<LayerSaved<Float>> saved_;
  LayerScratch<Float> scratch_;
  Buffer<float> final_x_, final_rstd_, dx_, noise_, losses_;
  LmHeadScratch<Float> head_scratch_;
  BatchResult evaluated_;
  std::function<void(const FfnActivations&)> observer_;
};

}  // namespace

Model::Model(const ModelConfig& config, const ModelOptions& options) {
  if (options.kernels != nullptr) {
    impl_ = device::MakeModel(config, options);
  } else if (options.compute == ComputeType::kFp32) {
    impl_ = std::make_unique<TypedModel<float>>(config, options);
  } else {
    impl_ = std::make_unique<TypedModel<c10::BFloat16>>(config, options);
  }
}

Model::~Model() = default;

const ModelConfig& Model::config() const { return impl_->config_; }
const ParameterLayout& Model::layout() const { return impl_->layout_; }

void Model::ShareExperts(std::unique_ptr<parallel::Communicator> group) {
  impl_->ShareExperts(std::move(group));
}

double Model::exchange_seconds() const {
  return impl_->exchange_.has_value() ? impl_->exchange_->seconds() : 0.0;
}

kernels::device::StepKernels* Model::kernels() const { return impl_->options_.kernels; }

at::Device Model::device() const {
  return kernels() == nullptr ? at::Device(at::kCPU) : kernels()->device();
}

void Model::SetParameters(const at::Tensor& parameters) {
  CheckArena(parameters, impl_->layout_, device(), "parameters");
  impl_->SetParameters(parameters);
}

void Model::RefreshLayer(int64_t layer) { impl_->RefreshLayer(layer); }

BatchResult Model::ForwardBackward(const Batch& batch, const NoiseContext& noise,
                                   const LossScale& scale, at::Tensor& gradients,
                                   const PassHooks& hooks) {
  CheckArena(gradients, impl_->layout_, device(), "gradients");
  if (batch.num_tokens() > 0 && batch.num_targets() == 0) {
    throw std::invalid_argument(fmt::format("{} samples of {} tokens have no target to learn from",
                                            batch.num_samples(), batch.num_tokens()));
  }
  return impl_->ForwardBackward(batch, noise, scale, gradients, hooks);
}

BatchResult Model::ForwardBackward(const at::Tensor& tokens_BS, const NoiseContext& noise,
                                   double grad_scale, at::Tensor& gradients) {
  const Batch batch = ToBatch(tokens_BS);
  const double targets = static_cast<double>(batch.num_targets());
  return ForwardBackward(batch, noise, {.target = grad_scale / targets, .balance = grad_scale},
                         gradients);
}

BatchResult Model::Evaluate(const Batch& batch) { return impl_->Evaluate(batch); }

BatchResult Model::Evaluate(const at::Tensor& tokens_BS) { return Evaluate(ToBatch(tokens_BS)); }

void Model::ObserveDenseFfns(std::function<void(const FfnActivations&)> observer) {
  impl_->ObserveDenseFfns(std::move(observer));
}

at::Tensor Model::Logits(const Batch& batch) { return impl_->Logits(batch); }

at::Tensor Model::Logits(const at::Tensor& tokens_BS) {
  return Logits(ToBatch(tokens_BS)).view({tokens_BS.size(0), tokens_BS.size(1), -1});
}

}  // namespace moe::model
