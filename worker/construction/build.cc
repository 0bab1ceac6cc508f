#include "worker/construction/build.h"

#include <ATen/ops/zeros.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/philox.h"
#include "common/status.h"
#include "worker/kernels/parallel.h"
#include "worker/model/float_codec.h"

namespace moe::construction {
namespace {

using artefacts::DType;
using model::Parameter;
using Bytes = kernels::Buffer<uint8_t>;

// The published models' `initializer_range`.
constexpr float kGateInitStddev = 0.02f;
// Several of the largest parameters of a 7B model: the disk's reading and its writing vary.
constexpr int64_t kReadAheadBytes = int64_t{1024} << 20;

// Draws consecutive values of one layer's stream, so that each layer's gate is independent of the
// others and of the size of the model around it.
class GateInit {
 public:
  GateInit(uint64_t seed, int64_t layer) : seed_(seed), layer_(static_cast<uint32_t>(layer)) {}

  void Fill(std::vector<float>& values) {
    const int64_t count = std::ssize(values);
    for (int64_t i = 0; i < count; i += 4) {
      const auto normal = Normal4(Philox(seed_, RandomStream::kGateInit, layer_, next_block_++));
      for (int64_t j = i; j < std::min(i + 4, count); ++j) {
        values[j] = kGateInitStddev * normal[j - i];
      }
    }
  }

 private:
  const uint64_t seed_;
  const uint32_t layer_;
  uint64_t next_block_ = 0;
};

// Groups of neurons that lie one after the other in the result.
using NeuronGroups = std::vector<Neurons>;

// From rows of the gate projection, then of the up projection, to [gate; up] of each group.
void SliceRows(const uint8_t* gate_up_2I, int64_t width, size_t row_bytes,
               const NeuronGroups& groups, uint8_t* out) {
  const uint8_t* up_I = gate_up_2I + static_cast<size_t>(width) * row_bytes;
  std::vector<const uint8_t*> rows;
  for (const Neurons& group : groups) {
    for (const uint8_t* matrix : {gate_up_2I, up_I}) {
      for (const int64_t n : group) rows.push_back(matrix + static_cast<size_t>(n) * row_bytes);
    }
  }
  kernels::ParallelFor(std::ssize(rows), 256, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(out + static_cast<size_t>(i) * row_bytes, rows[i], row_bytes);
    }
  });
}

// From the down projection to the columns of each group. A row stays in the cache while its values
// are dealt to all groups.
template <typename Value>
void SliceColumns(const Value* down_dI, int64_t d, int64_t width, const NeuronGroups& groups,
                  Value* out) {
  kernels::ParallelFor(d, 64, [&](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
      const Value* from = down_dI + row * width;
      Value* group_out = out;
      for (const Neurons& group : groups) {
        const int64_t n = std::ssize(group);
        Value* to = group_out + row * n;
        for (int64_t j = 0; j < n; ++j) to[j] = from[group[j]];
        group_out += d * n;
      }
    }
  });
}

class Builder {
 public:
  Builder(const model::WeightSource& dense, const artefacts::ModelConfig& to,
          const BuildOptions& options, const PlanLayer& plan_layer, const ParameterSink& sink)
      : dense_(dense), to_(to), options_(options), plan_layer_(plan_layer), sink_(sink) {}

  absl::Status Run() {
    const model::ParameterLayout layout(to_);
    for (const Parameter& parameter : layout.parameters()) {
      ReadAhead(layout.parameters(), parameter.offset + parameter.numel);
      MOE_RETURN_IF_ERROR(Make(parameter));
      MOE_RETURN_IF_ERROR(sink_(parameter, out_, SizeBytes(parameter)));
    }
    return absl::OkStatus();
  }

 private:
  // "layers.12.experts.down" is layer 12's "experts.down"; "embed" is no layer's.
  struct Name {
    int64_t layer = -1;
    std::string within;
  };
  static Name Parse(const std::string& name) {
    constexpr std::string_view kPrefix = "layers.";
    if (name.compare(0, kPrefix.size(), kPrefix) != 0) return {.layer = -1, .within = name};
    const size_t dot = name.find('.', kPrefix.size());
    return {.layer = std::stoll(name.substr(kPrefix.size(), dot - kPrefix.size())),
            .within = name.substr(dot + 1)};
  }

  size_t value_bytes() const { return artefacts::DTypeSize(dense_.dtype()); }

  uint64_t SizeBytes(const Parameter& parameter) const {
    return static_cast<uint64_t>(parameter.numel) * value_bytes();
  }

  // Keeps the disk reading while values are moved about and written: asks for what the parameters
  // after the one that ends at `end` are made of, as far as it has not been asked for.
  void ReadAhead(const std::vector<Parameter>& parameters, int64_t end) {
    const int64_t limit = end + kReadAheadBytes / static_cast<int64_t>(value_bytes());
    for (; next_ < parameters.size() && parameters[next_].offset < limit; ++next_) {
      const Parameter& parameter = parameters[next_];
      const Name name = Parse(parameter.name);
      if (IsCopied(parameter)) {
        dense_.WillRead(dense_.layout().Find(parameter.name));
      } else if (name.within.ends_with("gate_up")) {
        dense_.WillRead(SourceOf(name.layer, "gate_up"));
      } else if (name.within.ends_with("down")) {
        dense_.WillRead(SourceOf(name.layer, "down"));
      }
    }
  }

  // Fills out_.
  absl::Status Make(const Parameter& parameter) {
    const Name name = Parse(parameter.name);
    out_.Reserve(static_cast<int64_t>(SizeBytes(parameter)));
    if (IsCopied(parameter)) {
      dense_.Read(dense_.layout().Find(parameter.name), out_.data());
      return absl::OkStatus();
    }
    MOE_RETURN_IF_ERROR(EnterLayer(name.layer));
    if (const auto it = plan_.replaced.find(name.within); it != plan_.replaced.end()) {
      MOE_CHECK(it->second.numel() == parameter.numel);
      const at::Tensor values = it->second.contiguous();
      return Encode(parameter.name, values.const_data_ptr<float>(), parameter.numel);
    }
    if (name.within == "experts.gate_up" || name.within == "gate_up") {
      SliceGateUp(plan_.partition.experts);
    } else if (name.within == "experts.down" || name.within == "down") {
      SliceDown(plan_.partition.experts);
    } else if (name.within == "shared.gate_up") {
      SliceGateUp({plan_.partition.shared});
    } else if (name.within == "shared.down") {
      SliceDown({plan_.partition.shared});
      return ScaleShared(parameter);
    } else {
      return MakeGatePart(name, parameter);
    }
    return absl::OkStatus();
  }

  // What the dense model has, and in the same shape.
  bool IsCopied(const Parameter& parameter) const {
    return dense_.layout().Has(parameter.name) &&
           dense_.layout().Find(parameter.name).shape == parameter.shape;
  }

  absl::Status EnterLayer(int64_t layer) {
    if (layer == layer_) return absl::OkStatus();
    layer_ = layer;
    gate_.emplace(options_.seed, layer);
    MOE_ASSIGN_OR_RETURN(plan_, plan_layer_(layer));
    return absl::OkStatus();
  }

  const Parameter& SourceOf(int64_t layer, const char* within) const {
    return dense_.layout().Find(fmt::format("layers.{}.{}", layer, within));
  }

  const uint8_t* ReadDense(const char* within) {
    const Parameter& source = SourceOf(layer_, within);
    in_.Reserve(static_cast<int64_t>(SizeBytes(source)));
    dense_.Read(source, in_.data());
    return in_.data();
  }

  void SliceGateUp(const NeuronGroups& groups) {
    SliceRows(ReadDense("gate_up"), dense_.config().intermediate_size,
              static_cast<size_t>(dense_.config().hidden_size) * value_bytes(), groups,
              out_.data());
  }

  void SliceDown(const NeuronGroups& groups) {
    const uint8_t* down = ReadDense("down");
    const int64_t d = dense_.config().hidden_size, width = dense_.config().intermediate_size;
    if (value_bytes() == sizeof(uint16_t)) {
      SliceColumns(reinterpret_cast<const uint16_t*>(down), d, width, groups,
                   reinterpret_cast<uint16_t*>(out_.data()));
    } else {
      SliceColumns(reinterpret_cast<const uint32_t*>(down), d, width, groups,
                   reinterpret_cast<uint32_t*>(out_.data()));
    }
  }

  absl::Status ScaleShared(const Parameter& parameter) {
    if (options_.shared_scale_factor == 1) return absl::OkStatus();
    std::vector<float> values(parameter.numel);
    model::DecodeFloats(dense_.dtype(), out_.data(), parameter.numel, values.data());
    for (float& value : values) {
      value = static_cast<float>(value * options_.shared_scale_factor);
    }
    return Encode(parameter.name, values.data(), parameter.numel);
  }

  absl::Status MakeGatePart(const Name& name, const Parameter& parameter) {
    std::vector<float> values(parameter.numel);
    if (name.within == "router.0" || name.within == "router.2") {
      gate_->Fill(values);
    } else if (name.within == "scale") {
      values.assign(values.size(), static_cast<float>(to_.moe.ScaleFactor(name.layer)));
    } else {
      // The noise weights stay zero: sigma starts at ln 2 + epsilon.
      MOE_CHECK(name.within == "noise" || name.within == "output_bias");
    }
    return Encode(parameter.name, values.data(), parameter.numel);
  }

  absl::Status Encode(const std::string& name, const float* values, int64_t count) {
    const int64_t overflow = model::EncodeFloats(dense_.dtype(), values, count, out_.data());
    if (overflow < 0) return absl::OkStatus();
    return InvalidArgument(
        "{}[{}] = {} is beyond the range of {}, the type of the dense weights; "
        "save them as BF16 or F32 first",
        name, overflow, values[overflow], artefacts::DTypeName(dense_.dtype()));
  }

  const model::WeightSource& dense_;
  const artefacts::ModelConfig& to_;
  const BuildOptions& options_;
  const PlanLayer& plan_layer_;
  const ParameterSink& sink_;
  int64_t layer_ = -1;  // that plan_ and gate_ are of
  LayerPlan plan_;
  std::optional<GateInit> gate_;
  Bytes in_, out_;
  size_t next_ = 0;  // of the parameters: the first that was not asked for
};

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

absl::Status Build(const model::WeightSource& dense, const artefacts::ModelConfig& to,
                   const BuildOptions& options, const PlanLayer& plan_layer,
                   const ParameterSink& sink) {
  return Builder(dense, to, options, plan_layer, sink).Run();
}

absl::StatusOr<at::Tensor> BuildArena(const model::WeightSource& dense,
                                      const artefacts::ModelConfig& to, const BuildOptions& options,
                                      const PlanLayer& plan_layer) {
  at::Tensor parameters = at::zeros({model::ParameterLayout(to).arena_numel()}, at::kFloat);
  float* arena = parameters.mutable_data_ptr<float>();
  MOE_RETURN_IF_ERROR(Build(dense, to, options, plan_layer,
                            [&](const Parameter& parameter, const Bytes& bytes, uint64_t) {
                              model::DecodeFloats(dense.dtype(), bytes.data(), parameter.numel,
                                                  arena + parameter.offset);
                              return absl::OkStatus();
                            }));
  return parameters;
}

at::Tensor BuildMoe(const artefacts::ModelConfig& dense, const at::Tensor& dense_parameters,
                    const artefacts::ModelConfig& moe_config, const Partition& partition,
                    uint64_t seed) {
  MOE_CHECK(static_cast<int64_t>(partition.layers.size()) == dense.num_layers);
  absl::StatusOr<at::Tensor> parameters =
      BuildArena(*model::ArenaWeights(dense, dense_parameters), moe_config, {.seed = seed},
                 [&](int64_t layer) -> absl::StatusOr<LayerPlan> {
                   return LayerPlan{.partition = partition.layers[layer]};
                 });
  MOE_CHECK(parameters.ok());  // fp32 holds every value, and there is no other error
  return *std::move(parameters);
}

}  // namespace moe::construction
