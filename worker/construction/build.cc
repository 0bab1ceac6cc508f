// Shapes: N experts, n width of one expert, I = N n width of the dense FFN, d hidden size.
#include "worker/construction/build.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "common/check.h"
#include "common/philox.h"
#include "common/status.h"
#include "worker/model/arena.h"
#include "worker/model/parameters.h"

namespace moe::construction {
namespace {

// The published models' `initializer_range`.
constexpr float kGateInitStddev = 0.02f;

// Draws consecutive values of one layer's stream, so that each layer's gate is independent of the
// others and of the size of the model around it.
class GateInit {
 public:
  GateInit(uint64_t seed, int64_t layer) : seed_(seed), layer_(static_cast<uint32_t>(layer)) {}

  void Fill(at::Tensor values) {
    float* out = values.mutable_data_ptr<float>();
    const int64_t count = values.numel();
    for (int64_t i = 0; i < count; i += 4) {
      const auto normal = Normal4(Philox(seed_, RandomStream::kGateInit, layer_, next_block_++));
      for (int64_t j = i; j < std::min(i + 4, count); ++j) out[j] = kGateInitStddev * normal[j - i];
    }
  }

 private:
  uint64_t seed_;
  uint32_t layer_;
  uint64_t next_block_ = 0;
};

// The gate and up rows and the down columns of `neurons`.
void SliceNeurons(const at::Tensor& gate_up_2I_d, const at::Tensor& down_d_I,
                  const std::vector<int64_t>& neurons, at::Tensor gate_up_2n_d,
                  at::Tensor down_d_n) {
  const int64_t width = down_d_I.size(1), n = static_cast<int64_t>(neurons.size());
  const at::Tensor index_n = at::from_blob(const_cast<int64_t*>(neurons.data()), {n}, at::kLong);
  gate_up_2n_d.narrow(0, 0, n).copy_(
      at::index_select(gate_up_2I_d.narrow(0, 0, width), 0, index_n));
  gate_up_2n_d.narrow(0, n, n).copy_(
      at::index_select(gate_up_2I_d.narrow(0, width, width), 0, index_n));
  down_d_n.copy_(at::index_select(down_d_I, 1, index_n));
}

// Slices one dense FFN into experts.
void SliceFfn(const at::Tensor& gate_up_2I_d, const at::Tensor& down_d_I,
              const LayerPartition& partition, at::Tensor experts_gate_up_N_2n_d,
              at::Tensor experts_down_N_d_n) {
  for (int64_t e = 0; e < std::ssize(partition.experts); ++e) {
    SliceNeurons(gate_up_2I_d, down_d_I, partition.experts[e], experts_gate_up_N_2n_d.select(0, e),
                 experts_down_N_d_n.select(0, e));
  }
}

}  // namespace

absl::StatusOr<artefacts::ModelConfig> MoeConfigFor(const artefacts::ModelConfig& dense,
                                                    const artefacts::MoeConfig& moe) {
  if (dense.is_moe()) {
    return InvalidArgument(
        "the model is a mixture of {} experts already; construct takes a dense one",
        dense.moe.num_experts);
  }
  const int64_t routed_width = dense.intermediate_size - moe.shared_width;
  if (moe.expert_width == 0) MOE_RETURN_IF_ERROR(CheckSplit(routed_width, moe.num_experts));
  if (moe.top_k < 1 || moe.top_k > moe.num_experts) {
    return InvalidArgument("top_k={} must be from 1 to num_experts={}", moe.top_k, moe.num_experts);
  }
  if (moe.gate_network != "mlp" && moe.gate_network != "linear") {
    return InvalidArgument("gate_network=\"{}\" must be \"mlp\" or \"linear\"", moe.gate_network);
  }
  if (!(moe.score_scale_factor > 0)) {
    return InvalidArgument("score_scale_factor={} must be above 0; the published models use {}",
                           moe.score_scale_factor, double(moe.num_experts) / double(moe.top_k));
  }
  artefacts::ModelConfig config = dense;
  config.moe = moe;
  if (moe.expert_width == 0) config.moe.expert_width = routed_width / moe.num_experts;
  return config;
}

at::Tensor BuildMoe(const artefacts::ModelConfig& dense, const at::Tensor& dense_parameters,
                    const artefacts::ModelConfig& moe_config, const Partition& partition,
                    uint64_t seed, const std::function<void(int64_t)>& after_layer) {
  MOE_CHECK(static_cast<int64_t>(partition.layers.size()) == dense.num_layers);
  const model::ParameterLayout from(dense), to(moe_config);
  at::Tensor parameters = at::zeros({to.arena_numel()}, at::kFloat);
  const auto source = [&](const std::string& name) {
    return model::View(dense_parameters, from.Find(name));
  };
  const auto target = [&](const std::string& name) {
    return model::View(parameters, to.Find(name));
  };

  model::CopyShared(from, dense_parameters, to, parameters);
  for (int64_t i = 0; i < dense.num_layers; ++i) {
    if (!moe_config.is_moe_layer(i)) {
      after_layer(i + 1);
      continue;
    }
    const std::string layer = fmt::format("layers.{}.", i);
    SliceFfn(source(layer + "gate_up"), source(layer + "down"), partition.layers[i],
             target(layer + "experts.gate_up"), target(layer + "experts.down"));
    if (moe_config.moe.shared_width > 0) {
      SliceNeurons(source(layer + "gate_up"), source(layer + "down"), partition.layers[i].shared,
                   target(layer + "shared.gate_up"), target(layer + "shared.down"));
    }
    if (to.Has(layer + "scale")) target(layer + "scale").fill_(moe_config.moe.ScaleFactor(i));
    GateInit gate(seed, i);
    gate.Fill(target(layer + "router.0"));
    if (to.Has(layer + "router.2")) gate.Fill(target(layer + "router.2"));
    // The noise weights stay zero: sigma starts at ln 2 + epsilon.
    after_layer(i + 1);
  }
  return parameters;
}

at::Tensor BuildPruned(const artefacts::ModelConfig& dense, const at::Tensor& dense_parameters,
                       const artefacts::ModelConfig& pruned_config, const Partition& partition) {
  const model::ParameterLayout from(dense), to(pruned_config);
  at::Tensor parameters = at::zeros({to.arena_numel()}, at::kFloat);
  for (const model::Parameter& parameter : to.parameters()) {
    const model::Parameter& source = from.Find(parameter.name);
    if (source.shape == parameter.shape) {
      model::View(parameters, parameter).copy_(model::View(dense_parameters, source));
    }
  }
  for (int64_t i = 0; i < dense.num_layers; ++i) {
    const std::string gate_up = fmt::format("layers.{}.gate_up", i);
    const std::string down = fmt::format("layers.{}.down", i);
    SliceNeurons(model::View(dense_parameters, from.Find(gate_up)),
                 model::View(dense_parameters, from.Find(down)), partition.layers[i].experts[0],
                 model::View(parameters, to.Find(gate_up)), model::View(parameters, to.Find(down)));
  }
  return parameters;
}

void ScaleSharedExperts(const artefacts::ModelConfig& config, double factor,
                        at::Tensor& parameters) {
  const model::ParameterLayout layout(config);
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const std::string down = fmt::format("layers.{}.shared.down", i);
    if (layout.Has(down)) model::View(parameters, layout.Find(down)).mul_(factor);
  }
}

void SetGatesToCentres(const artefacts::ModelConfig& config, int64_t layer,
                       const std::vector<float>& rows_Id, const LayerPartition& partition,
                       at::Tensor& parameters) {
  const model::ParameterLayout layout(config);
  const std::string prefix = fmt::format("layers.{}.", layer);
  const int64_t N = config.moe.num_experts, d = config.hidden_size;
  float* router = model::View(parameters, layout.Find(prefix + "router.0")).data_ptr<float>();
  for (int64_t e = 0; e < N; ++e) {
    const Neurons& neurons = partition.experts[e];
    std::vector<double> sum(d);
    for (const int64_t n : neurons) {
      for (int64_t j = 0; j < d; ++j) sum[j] += rows_Id[n * d + j];
    }
    for (int64_t j = 0; j < d; ++j) {
      router[e * d + j] = static_cast<float>(sum[j] / static_cast<double>(neurons.size()));
    }
  }
  if (!layout.Has(prefix + "router.2")) return;
  at::Tensor second = model::View(parameters, layout.Find(prefix + "router.2"));
  second.zero_();
  for (int64_t e = 0; e < N; ++e) second.data_ptr<float>()[e * N + e] = 1.0f;
}

}  // namespace moe::construction
