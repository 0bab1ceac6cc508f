// Where every parameter lies in the flat arenas.
//
// A model's parameters, gradients and optimizer moments are flat fp32 vectors of the same length P;
// this says which range is what. Flat arenas make a checkpoint a contiguous write, a ZeRO-1 shard a
// range, and the optimizer one pass.
//
// d hidden size, V vocabulary, H heads, K key/value heads, hd head size, n FFN (or expert) width,
// N experts, m width of the shared expert.
//
//   embed                      [V, d]
//   layers.i.attn_norm         [d]
//   layers.i.qkv               [(H + 2 K) hd, d]     rows: all q heads, all k heads, all v heads
//   layers.i.attn_out          [d, H hd]
//   layers.i.ffn_norm          [d]
//   dense:  layers.i.gate_up   [2 n, d]              rows: gate, up; in layers without experts
//           layers.i.down      [d, n]
//   MoE:    layers.i.router.0  [N, d]
//           layers.i.router.2  [N, N]                only with the mlp gate network
//           layers.i.noise     [N, d]                only with gate noise
//           layers.i.experts.gate_up [N, 2 n, d]     per expert: gate rows, up rows
//           layers.i.experts.down    [N, d, n]
//           layers.i.scale     [1]                   only where the scale is learned
//           layers.i.shared.gate_up [2 m, d]         only with a shared expert
//           layers.i.shared.down    [d, m]
//           layers.i.output_bias    [d]              only with an output bias
//   norm                       [d]
//   lm_head                    [V, d]                absent where embeddings are tied
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "storage/artefacts/model_config.h"

namespace moe::model {

struct Parameter {
  std::string name;
  std::vector<int64_t> shape;
  int64_t offset = 0;  // first element in the arena; a multiple of 64, so rows start aligned
  int64_t numel = 0;
  bool decay = true;  // weight decay applies: to matrices, as published
};

class ParameterLayout {
 public:
  explicit ParameterLayout(const artefacts::ModelConfig& config);

  const std::vector<Parameter>& parameters() const { return parameters_; }
  // Elements of an arena, padding included (padding is always zero).
  int64_t arena_numel() const { return arena_numel_; }
  // Parameters, padding not included; and those that one token meets (top_k experts, everything
  // else once).
  int64_t total_parameters() const { return total_parameters_; }
  int64_t active_parameters() const { return active_parameters_; }
  // Ends the process where there is none: names come from code.
  const Parameter& Find(const std::string& name) const;
  bool Has(const std::string& name) const;

  // The elements [begin, end) of one layer; of the embedding for -1; of the last norm and the head
  // of their own, where there is one, for num_layers. All together, in this order, the arena.
  struct Range {
    int64_t begin = 0, end = 0;
  };
  Range LayerRange(int64_t layer) const;
  int64_t num_layers() const { return static_cast<int64_t>(layer_begins_.size()) - 1; }

 private:
  std::vector<Parameter> parameters_;
  std::vector<int64_t> layer_begins_;  // of each layer, then of the last norm
  int64_t arena_numel_ = 0;
  int64_t total_parameters_ = 0;
  int64_t active_parameters_ = 0;
};

}  // namespace moe::model
