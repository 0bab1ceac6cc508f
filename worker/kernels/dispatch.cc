#include "worker/kernels/dispatch.h"

#include <c10/util/BFloat16.h>

#include <algorithm>
#include <cstring>

#include "worker/kernels/multiversion.h"
#include "worker/kernels/parallel.h"
#include "worker/kernels/vector_math.h"

namespace moe::kernels {
namespace {

constexpr int64_t kMinRowsPerThread = 32;

template <typename T>
MOE_MULTIVERSION void AddRow(const T* __restrict from, int64_t d, float* __restrict to) {
  for (int64_t i = 0; i < d; ++i) to[i] += ToFloat(from[i]);
}

}  // namespace

void Dispatch::Build(const int32_t* expert, int64_t num_tokens, int64_t slots_per_token,
                     int64_t num_experts) {
  tokens = num_tokens;
  top_k = slots_per_token;
  const int64_t slots = tokens * top_k;
  first_row.assign(num_experts + 1, 0);
  row_of_slot.assign(slots, kNone);
  for (int64_t slot = 0; slot < slots; ++slot) {
    if (expert[slot] != kNone) ++first_row[expert[slot] + 1];
  }
  for (int64_t e = 0; e < num_experts; ++e) first_row[e + 1] += first_row[e];
  token_of_row.resize(first_row.back());
  slot_of_row.resize(first_row.back());
  std::vector<int64_t> next(first_row.begin(), first_row.end() - 1);
  for (int64_t slot = 0; slot < slots; ++slot) {
    if (expert[slot] == kNone) continue;
    const int64_t row = next[expert[slot]]++;
    token_of_row[row] = static_cast<int32_t>(slot / top_k);
    slot_of_row[row] = static_cast<int32_t>(slot);
    row_of_slot[slot] = static_cast<int32_t>(row);
  }
}

template <typename T>
void GatherRows(const Dispatch& dispatch, int64_t first_row, int64_t rows, const Matrix<const T>& x,
                T* to) {
  const int32_t* token = dispatch.token_of_row.data() + first_row;
  ParallelFor(rows, kMinRowsPerThread, [=, &x](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(to + i * x.cols, x.data + token[i] * x.stride, x.cols * sizeof(T));
    }
  });
}

template <typename T>
void CombineRows(const Dispatch& dispatch, const T* from, int64_t d, const float* base, float* y) {
  const int64_t top_k = dispatch.top_k;
  ParallelFor(dispatch.tokens, kMinRowsPerThread, [=, &dispatch](int64_t begin, int64_t end) {
    for (int64_t token = begin; token < end; ++token) {
      float* to = y + token * d;
      if (base != nullptr) {
        std::memcpy(to, base + token * d, d * sizeof(float));
      } else {
        std::fill_n(to, d, 0.0f);
      }
      for (int64_t slot = 0; slot < top_k; ++slot) {
        const int64_t row = dispatch.row_of_slot[token * top_k + slot];
        if (row != Dispatch::kNone) AddRow(from + row * d, d, to);
      }
    }
  });
}

template void GatherRows(const Dispatch&, int64_t, int64_t, const Matrix<const float>&, float*);
template void GatherRows(const Dispatch&, int64_t, int64_t, const Matrix<const c10::BFloat16>&,
                         c10::BFloat16*);
template void CombineRows(const Dispatch&, const float*, int64_t, const float*, float*);
template void CombineRows(const Dispatch&, const c10::BFloat16*, int64_t, const float*, float*);

}  // namespace moe::kernels
