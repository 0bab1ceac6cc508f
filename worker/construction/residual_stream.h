// A batch on its way through a dense model, one half of a layer at a time, so that an FFN can be
// looked at, fitted and replaced where it stands.
//
// B samples, S positions, T = B S tokens, d hidden size. fp32 throughout.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "storage/artefacts/model_config.h"
#include "worker/kernels/rope.h"
#include "worker/model/decoder_layer.h"
#include "worker/model/parameters.h"

namespace moe::construction {

// What all streams through one model share. Keeps a reference to `parameters` (the arena).
class DenseModel {
 public:
  DenseModel(const artefacts::ModelConfig& config, const at::Tensor& parameters,
             int64_t sequence_length);

  const artefacts::ModelConfig& config() const { return config_; }
  at::Tensor Weight(const std::string& name) const;
  // "layers.<layer>.<name>"
  at::Tensor LayerWeight(int64_t layer, const std::string& name) const;
  // h of the layer's FFN for its normalised input: silu(gate x) * up x, [T, I].
  at::Tensor Neurons(int64_t layer, const at::Tensor& x_Td) const;
  // What the FFN puts out, [T, d].
  at::Tensor Output(int64_t layer, const at::Tensor& x_Td) const;

 private:
  friend class ResidualStream;

  const artefacts::ModelConfig config_;
  const at::Tensor parameters_;
  const model::ParameterLayout layout_;
  const kernels::RopeTable rope_;
};

class ResidualStream {
 public:
  // Begins with the embeddings of tokens_BS, int64. S is at most the model's sequence_length.
  // `model` outlives the stream.
  ResidualStream(const DenseModel& model, const at::Tensor& tokens_BS);

  // The stream of some of the samples, where this one is now.
  ResidualStream Some(const std::vector<int64_t>& samples) const;

  // Adds the layer's attention; returns the normalised input of its FFN, [T, d].
  at::Tensor Attend(int64_t layer);
  // Adds the output of an FFN.
  void Add(const at::Tensor& y_Td);
  // Both halves, with the dense FFN.
  void PassDense(int64_t layer);
  // Mean next-token loss, as if all layers had been passed.
  double MeanLoss() const;

 private:
  const DenseModel* model_;
  at::Tensor tokens_BS_;
  at::Tensor x_Td_;
};

}  // namespace moe::construction
