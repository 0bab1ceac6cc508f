#include "worker/construction/calibrate.h"

#include <ATen/ops/eye.h>
#include <ATen/ops/mm.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/check.h"
#include "worker/construction/predictive_neurons.h"
#include "worker/construction/residual_stream.h"
#include "worker/construction/rows.h"

namespace moe::construction {
namespace {

// Of the sample, for the losses that tell layers apart. The third and the tenth differ by
// hundredths of a nat, and by other ones from domain to domain.
constexpr int64_t kSensitivityTokens = 2048;
// An mlp gate that begins as a linear one: tanh(s x) / s is x within 2 % for the logits that
// FitLayer gives.
constexpr double kTanhShrink = 0.1;

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

LayerPlan ToPlan(const FittedLayer& fitted, const LayerPartition& partition,
                 const std::string& gate_network) {
  LayerPlan plan{.partition = partition};
  const bool is_mlp = gate_network == "mlp";
  const double shrink = is_mlp ? kTanhShrink : 1.0;
  plan.replaced["router.0"] = fitted.gate_Nd.mul(shrink);
  if (is_mlp) plan.replaced["router.2"] = at::eye(fitted.gate_Nd.size(0)).div_(shrink);
  if (fitted.shared_down_dm.defined()) plan.replaced["shared.down"] = fitted.shared_down_dm;
  if (fitted.experts_down_Ndn.defined()) plan.replaced["experts.down"] = fitted.experts_down_Ndn;
  if (fitted.output_bias_d.defined()) plan.replaced["output_bias"] = fitted.output_bias_d;
  return plan;
}

class Calibrator {
 public:
  Calibrator(const DenseModel& dense, const CalibrationOptions& options, const Partition& partition,
             const at::Tensor& tokens_BS, const std::function<bool(int64_t, int64_t)>& progress)
      : dense_(dense),
        options_(options),
        partition_(partition),
        tokens_BS_(tokens_BS),
        progress_(progress),
        chooses_(options.num_dense_layers > std::ssize(options.dense_layers)) {
    result_.layers.resize(num_layers());
    for (const int64_t i : options.dense_layers) result_.layers[i].stays_dense = true;
  }

  CalibratedModel Run() {
    std::vector<LayerPlan> plans(num_layers());
    if (!PassDense() || !FitLayers(plans)) return std::move(result_);
    result_.config = dense_.config();
    result_.config.moe = MixtureConfig();
    result_.plans = std::move(plans);
    return std::move(result_);
  }

 private:
  int64_t num_layers() const { return dense_.config().num_layers; }
  CalibratedLayer& layer(int64_t i) { return result_.layers[i]; }
  bool Progress() { return progress_(++steps_done_, (chooses_ ? 2 : 1) * num_layers()); }

  // y_Td of the fitted layer is for inputs x_Td.
  FittedLayer Fit(int64_t i, const at::Tensor& x_Td) const {
    return FitLayer(
        options_.fit,
        {.x_Td = x_Td, .h_TI = dense_.Neurons(i, x_Td), .down_dI = dense_.LayerWeight(i, "down")},
        partition_.layers[i]);
  }

  // The dense model's loss; and, where there is a choice, which layers stay dense. False: stopped.
  bool PassDense() {
    ResidualStream stream(dense_, tokens_BS_);
    if (!chooses_) {
      for (int64_t i = 0; i < num_layers(); ++i) stream.PassDense(i);
      result_.dense_loss = stream.MeanLoss();
      return true;
    }
    const std::vector<int64_t> probed = ProbedSamples();
    for (int64_t i = 0; i < num_layers(); ++i) {
      const at::Tensor x_Td = stream.Attend(i);
      if (!layer(i).stays_dense) {
        const at::Tensor y_Td = SamplesOf(Fit(i, x_Td).y_Td, tokens_BS_.size(0), probed);
        layer(i).sensitivity = LossWith(dense_, stream.Some(probed), i, y_Td);
      }
      stream.Add(dense_.Output(i, x_Td));
      if (!Progress()) return false;
    }
    result_.dense_loss = stream.MeanLoss();
    const double probe_loss = stream.Some(probed).MeanLoss();
    for (CalibratedLayer& each : result_.layers) {
      if (!each.stays_dense) each.sensitivity -= probe_loss;
    }
    KeepMostSensitive();
    return true;
  }

  // Spread over the sample, and so over its domains.
  std::vector<int64_t> ProbedSamples() const {
    const int64_t B = tokens_BS_.size(0);
    const int64_t count = std::clamp<int64_t>(kSensitivityTokens / tokens_BS_.size(1), 1, B);
    std::vector<int64_t> probed(count);
    for (int64_t i = 0; i < count; ++i) probed[i] = (2 * i + 1) * B / (2 * count);
    return probed;
  }

  void KeepMostSensitive() {
    std::vector<int64_t> order(num_layers());
    std::iota(order.begin(), order.end(), 0);
    // Those that stay dense in any case come first, then the most sensitive.
    std::stable_sort(order.begin(), order.end(), [&](int64_t a, int64_t b) {
      if (layer(a).stays_dense != layer(b).stays_dense) return layer(a).stays_dense;
      return layer(a).sensitivity > layer(b).sensitivity;
    });
    for (int64_t i = 0; i < options_.num_dense_layers; ++i) layer(order[i]).stays_dense = true;
  }

  // From the bottom, each layer on what reaches it through the fitted ones. False: stopped.
  bool FitLayers(std::vector<LayerPlan>& plans) {
    ResidualStream stream(dense_, tokens_BS_);
    for (int64_t i = 0; i < num_layers(); ++i) {
      if (layer(i).stays_dense) {
        stream.PassDense(i);
      } else {
        const FittedLayer fitted = Fit(i, stream.Attend(i));
        stream.Add(fitted.y_Td);
        layer(i).relative_error = fitted.relative_error;
        layer(i).scale = fitted.scale;
        plans[i] = ToPlan(fitted, partition_.layers[i], options_.gate_network);
      }
      if (!Progress()) return false;
    }
    result_.loss = stream.MeanLoss();
    return true;
  }

  artefacts::MoeConfig MixtureConfig() const {
    artefacts::MoeConfig moe;
    moe.top_k = options_.fit.top_k;
    moe.gate_network = options_.gate_network;
    moe.learn_scale = options_.learn_scale;
    moe.output_bias = options_.fit.mean_vector;
    for (int64_t i = 0; i < num_layers(); ++i) {
      const CalibratedLayer& each = result_.layers[i];
      // A dense layer has no scale; 1 keeps the list readable.
      moe.layer_scale_factors.push_back(each.stays_dense ? 1.0 : each.scale);
      if (each.stays_dense) {
        moe.dense_layers.push_back(i);
        continue;
      }
      const LayerPartition& split = partition_.layers[i];
      moe.num_experts = std::ssize(split.experts);
      moe.expert_width = std::ssize(split.experts[0]);
      moe.shared_width = std::ssize(split.shared);
    }
    return moe;
  }

  const DenseModel& dense_;
  const CalibrationOptions& options_;
  const Partition& partition_;
  const at::Tensor& tokens_BS_;
  const std::function<bool(int64_t, int64_t)>& progress_;
  const bool chooses_;
  int64_t steps_done_ = 0;
  CalibratedModel result_;
};

}  // namespace

int64_t NumDenseLayers(double active_ffn_share, double mixture_share, int64_t num_layers) {
  if (mixture_share >= 1) return 0;
  const double share = (active_ffn_share - mixture_share) / (1 - mixture_share);
  // The share that an exact number of layers needs may come back a rounding error short.
  const auto layers = static_cast<int64_t>(share * static_cast<double>(num_layers) + 1e-6);
  return std::clamp<int64_t>(layers, 0, num_layers - 1);
}

std::vector<Neurons> NeuronsToShare(const artefacts::ModelConfig& dense_config,
                                    const at::Tensor& dense_parameters, const at::Tensor& tokens_BS,
                                    int64_t count) {
  std::vector<Neurons> shared(dense_config.num_layers);
  if (count == 0) return shared;
  const DenseModel dense(dense_config, dense_parameters, tokens_BS.size(1));
  ResidualStream stream(dense, tokens_BS);
  for (int64_t i = 0; i < dense_config.num_layers; ++i) {
    const at::Tensor h_TI = dense.Neurons(i, stream.Attend(i));
    const at::Tensor y_Td = at::mm(h_TI, dense.LayerWeight(i, "down").t());
    shared[i] = PredictiveNeurons(h_TI, y_Td, count);
    stream.Add(y_Td);
  }
  return shared;
}

CalibratedModel Calibrate(const artefacts::ModelConfig& dense_config,
                          const at::Tensor& dense_parameters, const CalibrationOptions& options,
                          const Partition& partition, const at::Tensor& tokens_BS,
                          const std::function<bool(int64_t, int64_t)>& progress) {
  MOE_CHECK(options.num_dense_layers < dense_config.num_layers);
  MOE_CHECK(std::ssize(partition.layers) == dense_config.num_layers);
  const DenseModel dense(dense_config, dense_parameters, tokens_BS.size(1));
  return Calibrator(dense, options, partition, tokens_BS, progress).Run();
}

}  // namespace moe::construction
