// Which rows each expert works on, and the way to them and back.
//
// T tokens, k experts per token, N experts. A "row" is one (token, slot) pair; rows are grouped by
// expert, and within an expert ordered by token. A slot that goes to no expert has no row.
#pragma once

#include <cstdint>
#include <vector>

#include "worker/kernels/matrix.h"

namespace moe::kernels {

struct Dispatch {
  static constexpr int32_t kNone = -1;

  int64_t tokens = 0, top_k = 0;
  std::vector<int64_t> first_row;     // [N + 1]; expert e has rows first_row[e] .. first_row[e + 1]
  std::vector<int32_t> token_of_row;  // [rows]
  std::vector<int32_t> slot_of_row;   // [rows]; token * k + slot
  std::vector<int32_t> row_of_slot;   // [T, k]; kNone where there is none

  // By counting: no sort. expert [T, k], each in [0, N) or kNone.
  void Build(const int32_t* expert, int64_t num_tokens, int64_t slots_per_token,
             int64_t num_experts);

  int64_t rows() const { return static_cast<int64_t>(token_of_row.size()); }
};

// to[i, :] = x[token of row first_row + i, :], for `rows` rows of x's columns, end to end.
template <typename T>
void GatherRows(const Dispatch& dispatch, int64_t first_row, int64_t rows, const Matrix<const T>& x,
                T* to);

// y[token, :] = base[token, :] + sum over the token's slots of from[row of slot, :], in slot order:
// no atomics, so the same bits every time. T is float or c10::BFloat16; the sum is fp32. A base
// that is null is zero.
template <typename T>
void CombineRows(const Dispatch& dispatch, const T* from, int64_t d, const float* base, float* y);

}  // namespace moe::kernels
