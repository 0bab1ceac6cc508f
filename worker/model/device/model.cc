#include "worker/model/device/model.h"

#include <ATen/ops/cat.h>
#include <ATen/ops/embedding.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/zeros_like.h>
#include <fmt/format.h>

#include <algorithm>
#include <stdexcept>
#include <utility>
#include <vector>

#include "worker/kernels/rope.h"
#include "worker/model/arena.h"
#include "worker/model/device/layer.h"
#include "worker/model/device/linear.h"
#include "worker/model/device/lm_head.h"
#include "worker/model/device/norm.h"
#include "worker/model/device/pass.h"
#include "worker/model/rope_frequencies.h"

namespace moe::model::device {

namespace kd = kernels::device;

namespace {

using artefacts::ModelConfig;

// What LibTorch's grouped products ask of every row.
constexpr int64_t kRowAlignmentBytes = 16;

void CheckFitsDevice(const ModelConfig& config, const ModelOptions& options) {
  if (options.experts.count > 1) {
    throw std::invalid_argument(fmt::format(
        "parallel.expert={}: experts are shared out among CPU ranks only; use 1 on a GPU",
        options.experts.count));
  }
  if (!config.is_moe()) return;
  const int64_t multiple = kRowAlignmentBytes / (options.compute == ComputeType::kBf16 ? 2 : 4);
  for (const auto& [name, width] : {std::pair("hidden_size", config.hidden_size),
                                    std::pair("expert_width", config.moe.expert_width)}) {
    if (width % multiple == 0) continue;
    throw std::invalid_argument(
        fmt::format("{}={} is not a multiple of {}, as products of experts on a GPU need it: use "
                    "another number of experts, or slots of CPUs",
                    name, width, multiple));
  }
}

// What a layer's gate and dispatch say of the batch, fp64: importance [N], load [N], the row ends
// [N], the balance loss.
at::Tensor RoutingOf(const FfnSaved& ffn) {
  return at::cat({ffn.gate.importance, ffn.gate.load, ffn.dispatch.row_ends.to(at::kDouble),
                  ffn.gate.balance_loss});
}

class DeviceModel final : public Model::Impl {
 public:
  DeviceModel(const ModelConfig& config, const ModelOptions& options)
      : Impl(config, options),
        kernels_(*options.kernels),
        type_(options.compute == ComputeType::kBf16 ? at::kBFloat16 : at::kFloat) {
    CheckFitsDevice(config, options);
  }

  void SetParameters(const at::Tensor& parameters) override {
    parameters_ = parameters;
    compute_ = parameters;
    if (type_ != at::kFloat && !compute_copy_.defined()) {
      compute_copy_ = at::empty({layout_.arena_numel()}, parameters.options().dtype(type_));
    }
    if (type_ != at::kFloat) compute_ = compute_copy_;
    embed_ = View(parameters_, layout_.Find("embed"));
    norm_ = View(parameters_, layout_.Find("norm"));
    head_ = View(compute_, layout_.Find(HeadName()));
    layers_.clear();
    for (int64_t i = 0; i < config_.num_layers; ++i) {
      layers_.push_back(LayerOf(layout_, config_, i, parameters_, compute_));
      if (!config_.is_moe_layer(i) || layers_.back().scale.defined()) continue;
      layers_.back().scale = at::full({1}, config_.moe.ScaleFactor(i), parameters_.options());
    }
    for (int64_t i = -1; i <= config_.num_layers; ++i) RefreshLayer(i);
  }

  void RefreshLayer(int64_t layer) override {
    if (type_ == at::kFloat) return;
    const ParameterLayout::Range range = layout_.LayerRange(layer);
    const int64_t numel = range.end - range.begin;
    compute_.narrow(0, range.begin, numel).copy_(parameters_.narrow(0, range.begin, numel));
  }

  BatchResult ForwardBackward(const Batch& batch, const NoiseContext& noise, const LossScale& scale,
                              at::Tensor& gradients, const PassHooks& hooks) override {
    const Tokens tokens(batch, config_);
    const DeviceBatch on_device = ToDevice(batch, tokens.places, config_, kernels_.device());
    MakeRope(tokens.longest);
    const Pass pass = PassOf(on_device);
    std::vector<LayerSaved> saved(layers_.size());
    std::vector<at::Tensor> routing;
    const at::Tensor x = Forward(pass, &noise, hooks.before_parameters, routing,
                                 [&](int64_t i) -> LayerSaved& { return saved[Place(i)]; });

    const auto complete = [&](int64_t layer) {
      if (hooks.after_gradients) hooks.after_gradients(layer);
    };
    const auto gradient = [&](const char* name) { return View(gradients, layout_.Find(name)); };
    const Normed last = Norm(pass, x, norm_, NormOutput::kRounded);
    const LmHeadGradient head =
        LmHeadLossBackward(pass, last.y, head_, scale.target, gradient(HeadName()));
    const at::Tensor dx = at::zeros_like(x);
    NormBackward(pass, head.dh, x, norm_, last.rstd, dx, gradient("norm"));
    complete(config_.num_layers);
    for (int64_t i = config_.num_layers - 1; i >= 0; --i) {
      LayerBackward(pass, layers_[Place(i)], scale.balance, saved[Place(i)],
                    LayerOf(layout_, config_, i, gradients, gradients), dx);
      saved[Place(i)] = {};
      complete(i);
    }
    kernels_.Run(kd::EmbeddingGradient{.rows = on_device.ids.size(0),
                                       .d = config_.hidden_size,
                                       .ids = DataOf<int32_t>(on_device.ids),
                                       .ends = DataOf<int32_t>(on_device.id_ends),
                                       .tokens = DataOf<int32_t>(on_device.id_tokens),
                                       .dx = DataOf<float>(dx),
                                       .into = MutableDataOf<float>(gradient("embed"))});
    complete(-1);
    return ResultOf(batch, head.losses, routing);
  }

  BatchResult Evaluate(const Batch& batch) override {
    std::vector<at::Tensor> routing;
    at::Tensor losses;
    EvaluateTo(batch, routing,
               [&](const Pass& pass, const at::Tensor& h) { losses = LmHeadLoss(pass, h, head_); });
    return ResultOf(batch, losses, routing);
  }

  at::Tensor Logits(const Batch& batch) override {
    std::vector<at::Tensor> routing;
    at::Tensor logits;
    EvaluateTo(batch, routing, [&](const Pass&, const at::Tensor& h) {
      logits = ProductInFp32(h, head_.t()).cpu();
    });
    return logits;
  }

  void ObserveDenseFfns(std::function<void(const FfnActivations&)>) override {
    throw std::invalid_argument("activations can be observed in a model on the CPU");
  }

 private:
  static size_t Place(int64_t layer) { return static_cast<size_t>(layer); }

  Pass PassOf(const DeviceBatch& batch) const {
    return {.kernels = kernels_,
            .config = config_,
            .estimator = options_.load_estimator,
            .type = type_,
            .batch = batch,
            .rope = rope_};
  }

  // Angles for as many positions. Those of "dynamic" scaling depend on that number.
  void MakeRope(int64_t positions) {
    const int64_t there = rope_.cos.defined() ? rope_.cos.size(0) : 0;
    const bool depends = config_.rope_scaling.type == "dynamic";
    if (depends ? there == positions : there >= positions) return;
    const kernels::RopeTable table(positions, RopeFrequencies(config_, positions));
    const auto copied = [&](const std::vector<float>& angles) {
      at::Tensor host = at::empty({table.positions, table.half}, at::kFloat);
      std::copy(angles.begin(), angles.end(), host.mutable_data_ptr<float>());
      return host.to(kernels_.device());
    };
    rope_ = {.cos = copied(table.cos), .sin = copied(table.sin)};
  }

  // Embedding and all layers; `saved_of` says where a layer keeps what its backward needs.
  template <typename SavedOf>
  at::Tensor Forward(const Pass& pass, const NoiseContext* noise,
                     const std::function<void(int64_t)>& before_parameters,
                     std::vector<at::Tensor>& routing, const SavedOf& saved_of) {
    if (!parameters_.defined()) {
      throw std::logic_error("SetParameters comes before the first batch");
    }
    const auto announce = [&](int64_t layer) {
      if (before_parameters) before_parameters(layer);
    };
    announce(-1);
    at::Tensor x = at::embedding(embed_, pass.batch.tokens);
    for (int64_t i = 0; i < config_.num_layers; ++i) {
      announce(i);
      at::Tensor draws;
      if (noise != nullptr && config_.is_moe_layer(i) && config_.moe.add_noise) {
        draws = DrawNoise(pass, *noise, i);
      }
      LayerSaved& saved = saved_of(i);
      x = Layer(pass, layers_[Place(i)], draws, x, saved);
      if (config_.is_moe_layer(i)) routing.push_back(RoutingOf(saved.ffn));
    }
    announce(config_.num_layers);
    return x;
  }

  // body(pass, h), where h is the output of the last norm, without noise.
  template <typename Body>
  void EvaluateTo(const Batch& batch, std::vector<at::Tensor>& routing, const Body& body) {
    const Tokens tokens(batch, config_);
    const DeviceBatch on_device = ToDevice(batch, tokens.places, config_, kernels_.device());
    MakeRope(tokens.longest);
    const Pass pass = PassOf(on_device);
    LayerSaved saved;  // of one layer at a time
    const at::Tensor x = Forward(pass, /*noise=*/nullptr, /*before_parameters=*/nullptr, routing,
                                 [&](int64_t) -> LayerSaved& { return saved = LayerSaved(); });
    body(pass, Norm(pass, x, norm_, NormOutput::kRounded).y);
  }

  // Waits for the device.
  BatchResult ResultOf(const Batch& batch, const at::Tensor& losses,
                       const std::vector<at::Tensor>& routing) const {
    BatchResult result;
    AddLosses(batch, losses.cpu().const_data_ptr<float>(), result);
    if (!config_.is_moe()) return result;
    at::Tensor rows;  // as RoutingOf has them, of the layers with experts
    if (!routing.empty()) rows = at::stack(routing).cpu();
    int64_t row = 0;
    for (int64_t i = 0; i < config_.num_layers; ++i) {
      if (!config_.is_moe_layer(i)) {
        AddDenseRouting(result);
      } else {
        AddRouting(rows.const_data_ptr<double>() + row++ * rows.size(1), batch.num_tokens(),
                   result);
      }
    }
    return result;
  }

  void AddRouting(const double* row, int64_t tokens, BatchResult& result) const {
    const int64_t N = config_.moe.num_experts;
    const double *importance = row, *load = row + N, *row_ends = row + 2 * N;
    result.balance_loss += row[3 * N];
    LayerRouting routing;
    for (int64_t e = 0; e < N; ++e) {
      // A switch gate's importance is a mean, and its load counts tokens that found no room.
      const bool is_switch = config_.moe.is_switch();
      const double rows = row_ends[e] - (e == 0 ? 0.0 : row_ends[e - 1]);
      routing.load.push_back(static_cast<int64_t>(is_switch ? load[e] : rows));
      routing.importance.push_back(is_switch ? importance[e] / static_cast<double>(tokens)
                                             : importance[e]);
    }
    routing.dropped = tokens * config_.moe.top_k - static_cast<int64_t>(row_ends[N - 1]);
    result.routing.push_back(std::move(routing));
  }

  kd::StepKernels& kernels_;
  const at::ScalarType type_;
  at::Tensor parameters_, compute_;  // what the model was given, and what products are made with
  at::Tensor compute_copy_;          // of bf16
  at::Tensor embed_, norm_, head_;
  std::vector<LayerTensors> layers_;
  RopeTensors rope_;
};

}  // namespace

std::unique_ptr<Model::Impl> MakeModel(const ModelConfig& config, const ModelOptions& options) {
  return std::make_unique<DeviceModel>(config, options);
}

}  // namespace moe::model::device
