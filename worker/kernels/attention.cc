#include "worker/kernels/attention.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

#include "worker/kernels/attention_tiles.h"
#include "worker/kernels/buffer.h"
#include "worker/kernels/gemm.h"
#include "worker/kernels/multiversion.h"
#include "worker/kernels/parallel.h"
#include "worker/kernels/tile_gemm.h"
#include "worker/kernels/vector_math.h"

namespace moe::kernels {
namespace {

constexpr int64_t kQueryBlock = 64;

// Unnormalised softmax of one row of scores, whose first `visible` entries count; the rest, up to
// `width`, become zero. Returns the sum; *max is what was subtracted.
MOE_MULTIVERSION float ExpRow(float* __restrict scores, int64_t visible, int64_t width,
                              float* max) {
  float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
  for (int64_t i = 0; i < visible; ++i) top = scores[i] > top ? scores[i] : top;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < visible; ++i) {
    scores[i] = Exp(scores[i] - top);
    sum += scores[i];
  }
  for (int64_t i = visible; i < width; ++i) scores[i] = 0;
  *max = top;
  return sum;
}

// scores -> probabilities, given the row's log-sum-exp.
MOE_MULTIVERSION void ProbabilityRow(float* __restrict scores, int64_t visible, int64_t width,
                                     float log_sum_exp) {
  for (int64_t i = 0; i < visible; ++i) scores[i] = Exp(scores[i] - log_sum_exp);
  for (int64_t i = visible; i < width; ++i) scores[i] = 0;
}

// dp -> gradient of the unscaled scores, in place.
MOE_MULTIVERSION void ScoreGradientRow(const float* __restrict p, float delta, float scale,
                                       int64_t width, float* __restrict dp) {
  for (int64_t i = 0; i < width; ++i) dp[i] = p[i] * (dp[i] - delta) * scale;
}

MOE_MULTIVERSION float Dot(const float* __restrict a, const float* __restrict b, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

template <typename T>
MOE_MULTIVERSION void LoadRow(const T* __restrict from, int64_t n, float* __restrict to) {
  for (int64_t i = 0; i < n; ++i) to[i] = ToFloat(from[i]);
}

template <typename T>
MOE_MULTIVERSION void StoreRow(const float* __restrict from, float scale, int64_t n,
                               T* __restrict to) {
  for (int64_t i = 0; i < n; ++i) to[i] = FromFloat<T>(from[i] * scale);
}

// One head's columns of `rows` rows as a dense fp32 block: GEMMs on short rows that lie far apart
// would miss the cache.
template <typename T>
void LoadBlock(const T* from, int64_t stride, int64_t rows, int64_t cols, float* to) {
  for (int64_t r = 0; r < rows; ++r) LoadRow(from + r * stride, cols, to + r * cols);
}

template <typename T>
void StoreBlock(const float* from, int64_t rows, int64_t cols, T* to, int64_t stride) {
  for (int64_t r = 0; r < rows; ++r) StoreRow(from + r * cols, 1.0f, cols, to + r * stride);
}

}  // namespace

template <typename T>
void AttentionForward(const AttentionShape& shape, const T* qkv, T* out, float* log_sum_exp) {
  if constexpr (std::is_same_v<T, c10::BFloat16>) {
    if (CpuPrefersBf16()) return AttentionForwardTiles(shape, qkv, out, log_sum_exp);
  }
  const int64_t H = shape.heads, hd = shape.head_dim;
  const int64_t group = H / shape.kv_heads, width = shape.qkv_width();
  const float scale = 1.0f / std::sqrt(static_cast<float>(hd));

  ParallelTasks(shape.batch * H, [&](int64_t, int64_t task) {
    thread_local Buffer<float> scratch;
    const int64_t b = task / H, h = task % H;
    const int64_t first = shape.begin(b), S = shape.length(b);
    float* q = scratch.Reserve(2 * kQueryBlock * hd + 2 * S * hd + kQueryBlock * S);
    float* o = q + kQueryBlock * hd;
    float* k = o + kQueryBlock * hd;
    float* v = k + S * hd;
    float* scores = v + S * hd;
    float* lse = log_sum_exp + first * H + h * S;
    const T* rows = qkv + first * width;
    LoadBlock(rows + (H + h / group) * hd, width, S, hd, k);
    LoadBlock(rows + (H + shape.kv_heads + h / group) * hd, width, S, hd, v);
    for (int64_t q0 = 0; q0 < S; q0 += kQueryBlock) {
      const int64_t queries = std::min(kQueryBlock, S - q0), keys = q0 + queries;
      LoadBlock(rows + q0 * width + h * hd, width, queries, hd, q);
      const Matrix<const float> q_block(q, queries, hd), k_block(k, keys, hd), v_block(v, keys, hd);
      const Matrix<float> s_block(scores, queries, keys);
      Gemm(q_block, k_block.Transposed(), Output::kOverwrite, s_block, scale);
      float sums[kQueryBlock];
      for (int64_t i = 0; i < queries; ++i) {
        float max;
        sums[i] = ExpRow(scores + i * keys, q0 + i + 1, keys, &max);
        lse[q0 + i] = max + std::log(sums[i]);
      }
      Gemm(Matrix<const float>(scores, queries, keys), v_block, Output::kOverwrite,
           Matrix<float>(o, queries, hd));
      for (int64_t i = 0; i < queries; ++i) {
        StoreRow(o + i * hd, 1.0f / sums[i], hd,
                 out + (first + q0 + i) * shape.out_width() + h * hd);
      }
    }
  });
}

template <typename T>
void AttentionBackward(const AttentionShape& shape, const T* dout, const T* qkv, const T* out,
                       const float* log_sum_exp, T* dqkv) {
  if constexpr (std::is_same_v<T, c10::BFloat16>) {
    if (CpuPrefersBf16()) return AttentionBackwardTiles(shape, dout, qkv, out, log_sum_exp, dqkv);
  }
  const int64_t H = shape.heads, K = shape.kv_heads, hd = shape.head_dim;
  const int64_t group = H / K, width = shape.qkv_width(), out_width = shape.out_width();
  const float scale = 1.0f / std::sqrt(static_cast<float>(hd));

  // A task owns a key/value head, so that the sums over its query heads have one order.
  ParallelTasks(shape.batch * K, [&](int64_t, int64_t task) {
    thread_local Buffer<float> scratch;
    const int64_t b = task / K, kv = task % K;
    const int64_t first = shape.begin(b), S = shape.length(b);
    float* q = scratch.Reserve(4 * kQueryBlock * hd + 4 * S * hd + 2 * kQueryBlock * S);
    float* dq = q + kQueryBlock * hd;
    float* o = dq + kQueryBlock * hd;
    float* d_o = o + kQueryBlock * hd;
    float* k = d_o + kQueryBlock * hd;
    float* v = k + S * hd;
    float* dk = v + S * hd;
    float* dv = dk + S * hd;
    float* p = dv + S * hd;
    float* ds = p + kQueryBlock * S;
    const int64_t k_column = (H + kv) * hd, v_column = (H + K + kv) * hd;
    const T* rows = qkv + first * width;
    T* drows = dqkv + first * width;
    LoadBlock(rows + k_column, width, S, hd, k);
    LoadBlock(rows + v_column, width, S, hd, v);
    std::fill_n(dk, 2 * S * hd, 0.0f);
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
      const float* lse = log_sum_exp + first * H + h * S;
      for (int64_t q0 = 0; q0 < S; q0 += kQueryBlock) {
        const int64_t queries = std::min(kQueryBlock, S - q0), keys = q0 + queries;
        const int64_t out_offset = (first + q0) * out_width + h * hd;
        LoadBlock(rows + q0 * width + h * hd, width, queries, hd, q);
        LoadBlock(out + out_offset, out_width, queries, hd, o);
        LoadBlock(dout + out_offset, out_width, queries, hd, d_o);
        const Matrix<const float> q_block(q, queries, hd), do_block(d_o, queries, hd),
            k_block(k, keys, hd), v_block(v, keys, hd), p_block(p, queries, keys),
            ds_block(ds, queries, keys);

        Gemm(q_block, k_block.Transposed(), Output::kOverwrite, Matrix<float>(p, queries, keys),
             scale);
        for (int64_t i = 0; i < queries; ++i) {
          ProbabilityRow(p + i * keys, q0 + i + 1, keys, lse[q0 + i]);
        }
        Gemm(p_block.Transposed(), do_block, Output::kAdd, Matrix<float>(dv, keys, hd));
        Gemm(do_block, v_block.Transposed(), Output::kOverwrite, Matrix<float>(ds, queries, keys));
        for (int64_t i = 0; i < queries; ++i) {
          const float delta = Dot(o + i * hd, d_o + i * hd, hd);
          ScoreGradientRow(p + i * keys, delta, scale, keys, ds + i * keys);
        }
        Gemm(ds_block, k_block, Output::kOverwrite, Matrix<float>(dq, queries, hd));
        Gemm(ds_block.Transposed(), q_block, Output::kAdd, Matrix<float>(dk, keys, hd));
        StoreBlock(dq, queries, hd, drows + q0 * width + h * hd, width);
      }
    }
    StoreBlock(dk, S, hd, drows + k_column, width);
    StoreBlock(dv, S, hd, drows + v_column, width);
  });
}

template void AttentionForward(const AttentionShape&, const float*, float*, float*);
template void AttentionForward(const AttentionShape&, const c10::BFloat16*, c10::BFloat16*, float*);
template void AttentionBackward(const AttentionShape&, const float*, const float*, const float*,
                                const float*, float*);
template void AttentionBackward(const AttentionShape&, const c10::BFloat16*, const c10::BFloat16*,
                                const c10::BFloat16*, const float*, c10::BFloat16*);

}  // namespace moe::kernels
