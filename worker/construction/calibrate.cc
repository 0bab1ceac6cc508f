#include "worker/construction/calibrate.h"

#include <ATen/ops/eye.h>
#include <ATen/ops/mm.h>
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "common/check.h"
#include "worker/construction/build.h"
#include "worker/construction/residual_stream.h"
#include "worker/model/arena.h"

namespace moe::construction {
namespace {

// Of the sample, for the losses that tell layers apart: their differences are tenths of a nat and
// more.
constexpr int64_t kSensitivityTokens = 1024;
// An mlp gate that begins as a linear one: tanh(s x) / s is x within 2 % for the logits that
// FitLayer gives.
constexpr double kTanhShrink = 0.1;

FittedLayer Fit(const DenseModel& dense, const FitOptions& options, int64_t layer,
                const at::Tensor& x_Td, const SplitLayer& split) {
  return FitLayer(options,
                  {.x_Td = x_Td,
                   .h_TI = dense.Neurons(layer, x_Td),
                   .down_dI = dense.LayerWeight(layer, "down")},
                  [&](const std::vector<int64_t>& neurons) { return split(layer, neurons); });
}

// The loss on `probe`, which has passed the layers below `layer` and its attention, once the
// layer's FFN puts out y_Td and everything above is dense.
double LossWith(const DenseModel& dense, ResidualStream probe, int64_t layer,
                const at::Tensor& y_Td) {
  probe.Add(y_Td);
  for (int64_t above = layer + 1; above < dense.config().num_layers; ++above) {
    probe.PassDense(above);
  }
  return probe.MeanLoss();
}

// The layers with the largest sensitivity, ascending.
std::vector<int64_t> MostSensitive(const std::vector<CalibratedLayer>& layers, int64_t count) {
  std::vector<int64_t> order(layers.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
    return layers[a].sensitivity > layers[b].sensitivity;
  });
  order.resize(count);
  std::sort(order.begin(), order.end());
  return order;
}

artefacts::MoeConfig MixtureConfig(const CalibrationOptions& options,
                                   const std::vector<CalibratedLayer>& layers) {
  artefacts::MoeConfig moe;
  moe.num_experts = options.fit.num_experts;
  moe.top_k = options.fit.top_k;
  moe.gate_network = options.gate_network;
  moe.learn_scale = options.learn_scale;
  moe.shared_width = options.fit.shared_width;
  moe.output_bias = options.fit.mean_vector;
  for (int64_t i = 0; i < std::ssize(layers); ++i) {
    // A dense layer has no scale; 1 keeps the list readable.
    moe.layer_scale_factors.push_back(layers[i].stays_dense ? 1.0 : layers[i].scale);
    if (layers[i].stays_dense) moe.dense_layers.push_back(i);
  }
  return moe;
}

// Puts what was fitted in the place of what BuildMoe sliced and drew.
void Install(const FittedLayer& fitted, int64_t layer, const model::ParameterLayout& layout,
             const at::Tensor& parameters) {
  const auto target = [&](const char* name) {
    return model::View(parameters, layout.Find(fmt::format("layers.{}.{}", layer, name)));
  };
  const bool is_mlp = layout.Has(fmt::format("layers.{}.router.2", layer));
  const double shrink = is_mlp ? kTanhShrink : 1.0;
  target("router.0").copy_(fitted.gate_Nd.mul(shrink));
  if (is_mlp) target("router.2").copy_(at::eye(fitted.gate_Nd.size(0)).div_(shrink));
  if (fitted.shared_down_dm.defined()) target("shared.down").copy_(fitted.shared_down_dm);
  if (fitted.output_bias_d.defined()) target("output_bias").copy_(fitted.output_bias_d);
}

}  // namespace

int64_t NumDenseLayers(double active_ffn_share, double mixture_share, int64_t num_layers) {
  if (mixture_share >= 1) return 0;
  const double share = (active_ffn_share - mixture_share) / (1 - mixture_share);
  // The share that an exact number of layers needs may come back a rounding error short.
  const auto layers = static_cast<int64_t>(share * static_cast<double>(num_layers) + 1e-6);
  return std::clamp<int64_t>(layers, 0, num_layers - 1);
}

CalibratedModel Calibrate(const artefacts::ModelConfig& dense_config,
                          const at::Tensor& dense_parameters, const CalibrationOptions& options,
                          const at::Tensor& tokens_BS, const SplitLayer& split,
                          const std::function<bool(int64_t, int64_t)>& progress) {
  const int64_t L = dense_config.num_layers, S = tokens_BS.size(1);
  MOE_CHECK(options.num_dense_layers < L);
  const DenseModel dense(dense_config, dense_parameters, S);
  CalibratedModel result;
  result.layers.resize(L);
  const bool chooses = options.num_dense_layers > 0;
  const int64_t steps = (chooses ? 2 : 1) * L;
  int64_t step = 0;

  ResidualStream stream(dense, tokens_BS);
  if (chooses) {
    const int64_t samples = std::clamp<int64_t>(kSensitivityTokens / S, 1, tokens_BS.size(0));
    for (int64_t i = 0; i < L; ++i) {
      const at::Tensor x_Td = stream.Attend(i);
      const FittedLayer fitted = Fit(dense, options.fit, i, x_Td, split);
      result.layers[i].sensitivity =
          LossWith(dense, stream.First(samples), i, fitted.y_Td.narrow(0, 0, samples * S));
      stream.Add(at::mm(dense.Neurons(i, x_Td), dense.LayerWeight(i, "down").t()));
      if (!progress(++step, steps)) return result;
    }
    ResidualStream probe = ResidualStream(dense, tokens_BS.narrow(0, 0, samples));
    for (int64_t i = 0; i < L; ++i) probe.PassDense(i);
    const double dense_loss = probe.MeanLoss();
    for (CalibratedLayer& layer : result.layers) layer.sensitivity -= dense_loss;
    for (const int64_t i : MostSensitive(result.layers, options.num_dense_layers)) {
      result.layers[i].stays_dense = true;
    }
  } else {
    for (int64_t i = 0; i < L; ++i) stream.PassDense(i);
  }
  result.dense_loss = stream.MeanLoss();

  stream = ResidualStream(dense, tokens_BS);
  std::vector<FittedLayer> fitted(L);
  Partition partition;
  partition.layers.resize(L);
  for (int64_t i = 0; i < L; ++i) {
    if (result.layers[i].stays_dense) {
      stream.PassDense(i);
    } else {
      fitted[i] = Fit(dense, options.fit, i, stream.Attend(i), split);
      stream.Add(fitted[i].y_Td);
      fitted[i].y_Td.reset();  // as large as the stream; the layers above do not need it
      result.layers[i].relative_error = fitted[i].relative_error;
      result.layers[i].scale = fitted[i].scale;
      partition.layers[i] = fitted[i].partition;
    }
    if (!progress(++step, steps)) return result;
  }
  result.loss = stream.MeanLoss();

  result.config = dense_config;
  result.config.moe = MixtureConfig(options, result.layers);
  result.config.moe.expert_width =
      (dense_config.intermediate_size - options.fit.shared_width) / options.fit.num_experts;
  const model::ParameterLayout layout(result.config);
  result.parameters = BuildMoe(dense_config, dense_parameters, result.config, partition,
                               /*seed=*/0, [](int64_t) {});
  for (int64_t i = 0; i < L; ++i) {
    if (!result.layers[i].stays_dense) Install(fitted[i], i, layout, result.parameters);
  }
  return result;
}

}  // namespace moe::construction
