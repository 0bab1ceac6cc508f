// A dense model and a partition of its neurons, made into a mixture of experts: one parameter at a
// time, so that neither model has to fit into memory.
//
// I width of the dense FFN, N experts, n width of one, m of the shared one, d hidden size, P arena.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/artefacts/model_config.h"
#include "worker/construction/partition.h"
#include "worker/kernels/buffer.h"
#include "worker/model/weight_source.h"

namespace moe::construction {

// The config of the mixture: `dense` with what `moe` says, and, where its expert width is 0, the
// width that follows: what the shared expert leaves, in equal parts. INVALID_ARGUMENT with value,
// limit and fix where `dense` is a mixture already, or the numbers do not fit.
absl::StatusOr<artefacts::ModelConfig> MoeConfigFor(const artefacts::ModelConfig& dense,
                                                    const artefacts::MoeConfig& moe);

// What a construction says of one layer with experts.
struct LayerPlan {
  LayerPartition partition;
  // fp32, in the place of what would be sliced or drawn, by the parameter's name within the layer
  // (worker/model/parameters.h): "router.0", "experts.down", ...
  std::map<std::string, at::Tensor> replaced = {};
};
// Called once for every layer with experts, in order, when its parameters are about to be made.
using PlanLayer = std::function<absl::StatusOr<LayerPlan>(int64_t layer)>;

struct BuildOptions {
  uint64_t seed = 0;               // of the gates
  double shared_scale_factor = 1;  // on the shared experts' output, in their down projection
};

// Takes the values of one parameter of the mixture, row-major in the type of the dense weights: the
// first `size` of `bytes`. They are gone when it returns, unless it leaves another buffer there.
using ParameterSink = std::function<absl::Status(const model::Parameter& parameter,
                                                 kernels::Buffer<uint8_t>& bytes, uint64_t size)>;

// Makes every parameter of `to`, which is MoeConfigFor of the dense config, in the order of its
// layout. Expert e holds the gate and up rows and the down columns of its neurons, in the plan's
// order, so the sum of all experts is the dense FFN; the shared expert likewise. Layers of
// to.moe.dense_layers keep their FFN. Gate networks are drawn from N(0, 0.02^2), as in the
// published models, a function of (seed, layer); noise weights and output biases are zero, learned
// scales start at the config's factor. Everything else is copied, bit for bit.
//
// Or `to` is the dense config with a smaller FFN width: a pruned model, of the only expert of each
// plan.
//
// Errors are those of `plan_layer` and `sink`; INVALID_ARGUMENT names a replaced value that the
// type of the weights cannot hold.
absl::Status Build(const model::WeightSource& dense, const artefacts::ModelConfig& to,
                   const BuildOptions& options, const PlanLayer& plan_layer,
                   const ParameterSink& sink);

// The same in memory: fp32 [P] of `to`.
absl::StatusOr<at::Tensor> BuildArena(const model::WeightSource& dense,
                                      const artefacts::ModelConfig& to, const BuildOptions& options,
                                      const PlanLayer& plan_layer);

// BuildArena of fp32 [P] of `dense` and of a partition that is there already.
at::Tensor BuildMoe(const artefacts::ModelConfig& dense, const at::Tensor& dense_parameters,
                    const artefacts::ModelConfig& moe_config, const Partition& partition,
                    uint64_t seed);

}  // namespace moe::construction
