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
//
// Where the experts of every layer are shared out among ranks, a rank's arena holds its N / E of
// them alone (`experts.*` above are [N / E, ...]), after everything else: so it has two regions,
// each of which other ranks hold copies of.
#pragma once

#include <array>
#include <cstdint>
#include <iterator>
#include <string>
#include <vector>

#include "storage/artefacts/model_config.h"

namespace moe::model {

// Which experts of every layer are held: of `count` equal parts, in order, the one of `index`.
struct ExpertShare {
  int64_t index = 0;
  int64_t count = 1;
};

// Parts of an arena, in this order. Where all experts are held there is the first alone.
enum class Region { kReplicated, kExperts };
inline constexpr std::array kRegions = {Region::kReplicated, Region::kExperts};

// Parameters begin at multiples of so many elements, so that rows start aligned.
inline constexpr int64_t kParameterAlignment = 64;

// Elements from a parameter's first one to that of the next.
constexpr int64_t Padded(int64_t numel) {
  return (numel + kParameterAlignment - 1) / kParameterAlignment * kParameterAlignment;
}

struct Parameter {
  std::string name;
  std::vector<int64_t> shape;
  int64_t offset = 0;  // first element in the arena; a multiple of kParameterAlignment
  int64_t numel = 0;
  bool decay = true;  // weight decay applies: to matrices, as published
  Region region = Region::kReplicated;
  // Where the first element lies in the arena that holds all experts.
  int64_t whole_offset = 0;
};

class ParameterLayout {
 public:
  // `share` is one that planner/expert_parallel.h accepts; ends the process otherwise.
  explicit ParameterLayout(const artefacts::ModelConfig& config, const ExpertShare& share = {});

  const ExpertShare& share() const { return share_; }
  // In the order above, whatever the region.
  const std::vector<Parameter>& parameters() const { return parameters_; }
  // Elements of an arena, padding included (padding is always zero); and of the arena that holds
  // all experts.
  int64_t arena_numel() const { return arena_numel_; }
  int64_t whole_numel() const { return whole_numel_; }
  // Parameters of the whole model, padding not included; and those that one token meets (top_k
  // experts, everything else once).
  int64_t total_parameters() const { return total_parameters_; }
  int64_t active_parameters() const { return active_parameters_; }
  // Ends the process where there is none: names come from code.
  const Parameter& Find(const std::string& name) const;
  bool Has(const std::string& name) const;

  // The elements [begin, end) of one layer in a region; of the embedding for -1; of the last norm
  // and the head of their own, where there is one, for num_layers. All together, in this order, the
  // region; a layer that has nothing in it is empty at its place.
  struct Range {
    int64_t begin = 0, end = 0;
    bool operator==(const Range&) const = default;
  };
  Range LayerRange(int64_t layer, Region region = Region::kReplicated) const;
  Range RegionRange(Region region) const;
  int64_t num_layers() const { return std::ssize(begins_.front()) - 3; }

  // The elements [begin, end), which share a region, as ranges of the arena that holds all experts,
  // in the same order. Neighbours there are one.
  std::vector<Range> WholeRanges(Range range) const;

 private:
  const ExpertShare share_;
  std::vector<Parameter> parameters_;
  // By region: where the embedding begins, each layer, the last norm, and the end.
  std::array<std::vector<int64_t>, kRegions.size()> begins_;
  int64_t arena_numel_ = 0;
  int64_t whole_numel_ = 0;
  int64_t total_parameters_ = 0;
  int64_t active_parameters_ = 0;
};

}  // namespace moe::model
