// The way of tokens to experts and back, without a sort and without asking the device how many
// there are: counts, their running sums (LibTorch's cumsum), places.
//
// T tokens, k experts per token, N experts. A slot is one (token, choice) pair, T k of them; a row
// one of the R = T k places, grouped by expert, and within an expert in the order of the slots. A
// slot that goes to no expert has no row, and as many rows at the end are nobody's.
#pragma once

#include "worker/kernels/device/row_kernel.h"

namespace moe::kernels::device {

// Which expert each slot goes to: `order` [T, stride], of which the first k of a token count.
struct Choices {
  const int32_t* order;
  int32_t top_k, stride;

  MOE_HOST_DEVICE int32_t ExpertOf(int64_t slot) const {
    return order[slot / top_k * stride + slot % top_k];
  }
};

// Slots are counted in blocks of so many, each by a team whose members have an expert each.
inline constexpr int64_t kSlotsPerBlock = 256;

struct CountSlots {
  static constexpr int kThreads = 32;
  int64_t rows;  // the blocks
  int64_t num_slots;
  int32_t num_experts;
  Choices choices;
  int32_t* counts;  // [N, blocks]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t block, const Team& team) const {
    const int64_t begin = block * kSlotsPerBlock;
    const int64_t end = begin + kSlotsPerBlock < num_slots ? begin + kSlotsPerBlock : num_slots;
    for (int32_t e = team.rank(); e < num_experts; e += team.size()) {
      int32_t count = 0;
      for (int64_t slot = begin; slot < end; ++slot) count += choices.ExpertOf(slot) == e ? 1 : 0;
      counts[e * rows + block] = count;
    }
  }
};

struct PlaceRows {
  static constexpr int kThreads = 32;
  int64_t rows;  // the blocks
  int64_t num_slots;
  int32_t num_experts;
  Choices choices;
  const int32_t* counts;  // [N, blocks]
  const int64_t* ends;    // [N, blocks], the running sums of counts
  int32_t* row_of_slot;   // [T k]; -1 where there is none
  int32_t* slot_of_row;   // [R]; rows that are nobody's keep what they have

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t block, const Team& team) const {
    const int64_t begin = block * kSlotsPerBlock;
    const int64_t end = begin + kSlotsPerBlock < num_slots ? begin + kSlotsPerBlock : num_slots;
    for (int32_t e = team.rank(); e < num_experts; e += team.size()) {
      int64_t next = ends[e * rows + block] - counts[e * rows + block];
      for (int64_t slot = begin; slot < end; ++slot) {
        if (choices.ExpertOf(slot) != e) continue;
        slot_of_row[next] = static_cast<int32_t>(slot);
        row_of_slot[slot] = static_cast<int32_t>(next++);
      }
    }
    for (int64_t slot = begin + team.rank(); slot < end; slot += team.size()) {
      if (choices.ExpertOf(slot) < 0) row_of_slot[slot] = -1;
    }
  }
};

// to[row, :] = x[token of the row, :]
struct GatherRows {
  static constexpr int kThreads = 256;
  int64_t rows;
  ElementType type;
  int64_t d;
  int32_t top_k;
  const int32_t* slot_of_row;  // [rows]
  const void* x;               // [T, d]
  void* to;                    // [rows, d]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t row, const Team& team) const {
    const T* from = static_cast<const T*>(x) + slot_of_row[row] / top_k * d;
    ForColumns(team, d, [&](auto lanes, int64_t c) {
      Store(Load<decltype(lanes)::value>(from + c), static_cast<T*>(to) + row * d + c);
    });
  }
};

// y[token, :] = base[token, :] + the sum of its slots' rows, in their order.
struct CombineRows {
  static constexpr int kThreads = 256;
  int64_t rows;  // T
  ElementType type;
  int64_t d;
  int32_t top_k;
  const int32_t* row_of_slot;  // [T k]
  const void* from;            // [R, d]
  const float* base;           // [T, d], or null for 0
  float* y;                    // [T, d]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t token, const Team& team) const {
    ForColumns(team, d, [&](auto lanes, int64_t c) {
      constexpr int kLanes = decltype(lanes)::value;
      Floats<kLanes> sum = {};
      if (base != nullptr) sum = Load<kLanes>(base + token * d + c);
      for (int32_t j = 0; j < top_k; ++j) {
        const int64_t row = row_of_slot[token * top_k + j];
        if (row < 0) continue;
        const auto add = Load<kLanes>(static_cast<const T*>(from) + row * d + c);
        for (int i = 0; i < kLanes; ++i) sum.at[i] += add.at[i];
      }
      Store(sum, y + token * d + c);
    });
  }
};

// What a row's output is multiplied by: its slot's score times the layer's scale.
struct ScaleRows {
  static constexpr int kThreads = 1;
  int64_t rows;                // the slots
  const int32_t* row_of_slot;  // [T k]
  const float* scores;         // [T k]
  const float* scale;          // [1]
  float* row_scale;            // [R]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t slot, const Team&) const {
    if (row_of_slot[slot] >= 0) row_scale[row_of_slot[slot]] = scores[slot] * scale[0];
  }
};

// From drow_scale, the gradients of each slot's score and its term of that of the scale.
struct ScaleRowsBackward {
  static constexpr int kThreads = 1;
  int64_t rows;                // the slots
  const int32_t* row_of_slot;  // [T k]
  const float* scores;         // [T k]
  const float* scale;          // [1]
  const float* drow_scale;     // [R]
  float* dscores;              // [T k]
  float* dscale_terms;         // [T k]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t slot, const Team&) const {
    const int32_t row = row_of_slot[slot];
    const float gradient = row < 0 ? 0.0f : drow_scale[row];
    dscores[slot] = gradient * scale[0];
    dscale_terms[slot] = gradient * scores[slot];
  }
};

// into += from for the weights of every expert that has rows. What a grouped product leaves for one
// that has none is not defined.
struct AddExpertGradients {
  static constexpr int kThreads = 256;
  static constexpr int64_t kElementsPerPart = 4096;
  int64_t rows;  // N times the parts of one expert
  ElementType type;
  int64_t numel;            // of one expert
  const int32_t* row_ends;  // [N], one past each expert's last row
  const void* from;         // [N, numel]
  float* into;              // [N, numel]

  template <typename T, typename Team>
  MOE_HOST_DEVICE void Row(int64_t row, const Team& team) const {
    const int64_t parts = PartsOf(numel, kElementsPerPart);
    const int64_t e = row / parts, begin = row % parts * kElementsPerPart;
    const int32_t first_row = e == 0 ? 0 : row_ends[e - 1];
    if (row_ends[e] == first_row) return;
    const int64_t count = begin + kElementsPerPart < numel ? kElementsPerPart : numel - begin;
    const T* add = static_cast<const T*>(from) + e * numel + begin;
    float* sum = into + e * numel + begin;
    ForColumns(team, count, [&](auto lanes, int64_t c) {
      constexpr int kLanes = decltype(lanes)::value;
      auto values = Load<kLanes>(sum + c);
      const auto more = Load<kLanes>(add + c);
      for (int i = 0; i < kLanes; ++i) values.at[i] += more.at[i];
      Store(values, sum + c);
    });
  }
};

}  // namespace moe::kernels::device
