// How much each neuron of a dense model matters to groups of text, and which neurons are active
// together: from the trainer's own forward and backward pass.
//
// I FFN width, S tokens of a sample.
//
// Source: LLaMA-MoE (arXiv 2406.16554), equation 7, and its published code. The published runs use
// the defaults below.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "worker/construction/importance_split.h"
#include "worker/model/model.h"

namespace moe::construction {

enum class Projection {
  kUp,    // the input h of the down projection, silu(gate x) * up x
  kGate,  // the output of the gate projection, before silu
};
enum class Kernel { kPlain, kL1, kL2 };  // v, |v|, v^2
enum class Accumulate {
  kSample,  // the sum over tokens of kernel(score)
  kTotal,   // kernel(the sum over tokens of the score)
};
enum class ScoreType {
  kChange,    // value x gradient: what removing the neuron changes, to first order
  kGradient,  // gradient
};

struct ImportanceOptions {
  Projection projection = Projection::kUp;
  Kernel kernel = Kernel::kL1;
  Accumulate accumulate = Accumulate::kSample;
  ScoreType score = ScoreType::kChange;
};

// Samples, int64 [S] each, of one group of text.
using TextGroup = std::vector<at::Tensor>;

// Called with the number of samples done; false stops.
using SampleProgress = std::function<bool(int64_t)>;

// Scores per layer: result[layer][group][neuron], divided by the number of targets of all groups,
// as published. `parameters` is fp32 [P] of the dense `config`. One forward and backward pass per
// sample and group in fp32, with the loss averaged over the sample's targets. Empty where
// `progress` stopped it. Costs two arenas of memory beyond `parameters`.
std::vector<Scores> MeasureImportance(const artefacts::ModelConfig& config,
                                      const at::Tensor& parameters,
                                      const std::vector<TextGroup>& groups,
                                      const ImportanceOptions& options,
                                      const SampleProgress& progress);

// For layers [first_layer, first_layer + num_layers), how often pairs of neurons are active on the
// same tokens: fp32 [I, I], the sum over samples of min(r^T r, threshold) with r = kernel(h) [S,
// I]. Source: the published code's co-activation graph, after MoEfication (Zhang et al. 2022).
std::vector<at::Tensor> MeasureCoactivation(const artefacts::ModelConfig& config,
                                            const at::Tensor& parameters, const TextGroup& samples,
                                            Kernel kernel, double threshold, int64_t first_layer,
                                            int64_t num_layers, const SampleProgress& progress);

}  // namespace moe::construction
