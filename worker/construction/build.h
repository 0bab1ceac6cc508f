// A dense model and a partition of its neurons, made into a mixture of experts.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/artefacts/model_config.h"
#include "worker/construction/partition.h"

namespace moe::construction {

// The config of the mixture: `dense` with what `moe` says, and, where its expert width is 0, the
// width that follows: what the shared expert leaves, in equal parts. INVALID_ARGUMENT with value,
// limit and fix where `dense` is a mixture already, or the numbers do not fit.
absl::StatusOr<artefacts::ModelConfig> MoeConfigFor(const artefacts::ModelConfig& dense,
                                                    const artefacts::MoeConfig& moe);

// Slices the dense weights (`dense_parameters`, fp32 [P] of `dense`) by `partition`: expert e holds
// the gate and up rows and the down columns of its neurons, in ascending order, so the sum of all
// experts is the dense FFN; the shared expert likewise. Layers of moe_config.moe.dense_layers keep
// their FFN. Learned scales start at the config's factor, output biases at zero. Gate networks are
// drawn from N(0, 0.02^2), as in the published models, a function of (seed, layer); the gate's
// noise weights are zero. Everything else is copied. Returns fp32 [P] of `moe_config`, which is
// MoeConfigFor of `dense` and fits `partition`. `after_layer` is called with the number of layers
// done.
at::Tensor BuildMoe(const artefacts::ModelConfig& dense, const at::Tensor& dense_parameters,
                    const artefacts::ModelConfig& moe_config, const Partition& partition,
                    uint64_t seed, const std::function<void(int64_t)>& after_layer);

// The dense model of `pruned_config`, which is `dense` with a smaller FFN width: the neurons of the
// partition's only expert in each layer.
at::Tensor BuildPruned(const artefacts::ModelConfig& dense, const at::Tensor& dense_parameters,
                       const artefacts::ModelConfig& pruned_config, const Partition& partition);

// Multiplies the shared experts' outputs by `factor`, in their down projections.
void ScaleSharedExperts(const artefacts::ModelConfig& config, double factor,
                        at::Tensor& parameters);

// Makes the first matrix of a layer's gate the mean of each expert's normalised rows (`rows_Id`,
// see NormalisedRows) and the second, where there is one, the identity: the start that the
// published code has for gates trained against dense activations.
void SetGatesToCentres(const artefacts::ModelConfig& config, int64_t layer,
                       const std::vector<float>& rows_Id, const LayerPartition& partition,
                       at::Tensor& parameters);

}  // namespace moe::construction
