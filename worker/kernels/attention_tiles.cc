#include "worker/kernels/attention_tiles.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "worker/kernels/buffer.h"
#include "worker/kernels/multiversion.h"
#include "worker/kernels/parallel.h"
#include "worker/kernels/tile_gemm.h"
#include "worker/kernels/tile_layout.h"
#include "worker/kernels/vector_math.h"

namespace moe::kernels {
namespace {

using c10::BFloat16;

constexpr int64_t kQueryBlock = 64;

// Unnormalised softmax of one row of unscaled scores, whose first `visible` entries count; the
// rest, up to `width`, become zero. Returns the sum; *max is what was subtracted.
MOE_MULTIVERSION float ExpRow(const float* __restrict scores, int64_t visible, int64_t width,
                              float scale, BFloat16* __restrict p, float* max) {
  float top = -std::numeric_limits<float>::infinity();
#pragma omp simd reduction(max : top)
  for (int64_t i = 0; i < visible; ++i) top = scores[i] > top ? scores[i] : top;
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < visible; ++i) {
    const float e = Exp((scores[i] - top) * scale);
    sum += e;
    p[i] = FromFloat<BFloat16>(e);
  }
  for (int64_t i = visible; i < width; ++i) p[i] = FromFloat<BFloat16>(0.0f);
  *max = top * scale;
  return sum;
}

// Unscaled scores and the gradients dp of the probabilities -> the probabilities and the gradients
// of the unscaled scores. Transposed, `keys` rows of `queries`, for statistics of queries to be
// vectors; a query sees the keys up to number `offset` + its own.
MOE_MULTIVERSION void GradientsOfBlock(const float* __restrict scores, const float* __restrict dp,
                                       int64_t keys, int64_t queries, int64_t offset, float scale,
                                       const float* __restrict log_sum_exp,
                                       const float* __restrict delta, BFloat16* __restrict p,
                                       BFloat16* __restrict ds) {
  for (int64_t key = 0; key < keys; ++key) {
    const int32_t first = static_cast<int32_t>(std::max<int64_t>(key - offset, 0));
    const int64_t row = key * queries;
    for (int32_t q = 0; q < static_cast<int32_t>(queries); ++q) {
      const float e = Exp(scores[row + q] * scale - log_sum_exp[q]);
      const float probability = q >= first ? e : 0.0f;
      p[row + q] = FromFloat<BFloat16>(probability);
      ds[row + q] = FromFloat<BFloat16>(probability * (dp[row + q] - delta[q]) * scale);
    }
  }
}

MOE_MULTIVERSION float Dot(const BFloat16* __restrict a, const BFloat16* __restrict b, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += ToFloat(a[i]) * ToFloat(b[i]);
  return sum;
}

MOE_MULTIVERSION void StoreRow(const float* __restrict from, float scale, int64_t n,
                               BFloat16* __restrict to) {
  for (int64_t i = 0; i < n; ++i) to[i] = FromFloat<BFloat16>(from[i] * scale);
}

}  // namespace

void AttentionForwardTiles(const AttentionShape& shape, const BFloat16* qkv, BFloat16* out,
                           float* log_sum_exp) {
  const int64_t H = shape.heads, hd = shape.head_dim;
  const int64_t group = H / shape.kv_heads, width = shape.qkv_width();
  const float scale = 1.0f / std::sqrt(static_cast<float>(hd));

  ParallelTasks(shape.batch * H, [&](int64_t, int64_t task) {
    thread_local TileMatrix keys_hS, values_Sh;
    thread_local Buffer<float> sums_room;
    thread_local Buffer<BFloat16> p_room;
    const int64_t b = task / H, h = task % H;
    const int64_t first = shape.begin(b), S = shape.length(b);
    float* scores = sums_room.Reserve(kQueryBlock * (S + hd));
    float* o = scores + kQueryBlock * S;
    BFloat16* p = p_room.Reserve(kQueryBlock * S);
    float* lse = log_sum_exp + first * H + h * S;
    const BFloat16* rows = qkv + first * width;
    const auto head = [&](int64_t column) {
      return Matrix<const BFloat16>(rows + column * hd, S, hd, width);
    };
    keys_hS.Pack(head(H + h / group).Transposed());
    values_Sh.Pack(head(H + shape.kv_heads + h / group));
    for (int64_t q0 = 0; q0 < S; q0 += kQueryBlock) {
      const int64_t queries = std::min(kQueryBlock, S - q0), seen = q0 + queries;
      const Matrix<const BFloat16> q(rows + q0 * width + h * hd, queries, hd, width);
      TileGemm(q, keys_hS, Output::kOverwrite, Matrix<float>(scores, queries, seen));
      float totals[kQueryBlock];
      for (int64_t i = 0; i < queries; ++i) {
        float max;
        totals[i] = ExpRow(scores + i * seen, q0 + i + 1, seen, scale, p + i * seen, &max);
        lse[q0 + i] = max + std::log(totals[i]);
      }
      TileGemm(Matrix<const BFloat16>(p, queries, seen), values_Sh, Output::kOverwrite,
               Matrix<float>(o, queries, hd));
      for (int64_t i = 0; i < queries; ++i) {
        StoreRow(o + i * hd, 1.0f / totals[i], hd,
                 out + (first + q0 + i) * shape.out_width() + h * hd);
      }
    }
  });
}

void AttentionBackwardTiles(const AttentionShape& shape, const BFloat16* dout, const BFloat16* qkv,
                            const BFloat16* out, const float* log_sum_exp, BFloat16* dqkv) {
  const int64_t H = shape.heads, K = shape.kv_heads, hd = shape.head_dim;
  const int64_t group = H / K, width = shape.qkv_width(), out_width = shape.out_width();
  const float scale = 1.0f / std::sqrt(static_cast<float>(hd));

  // A task owns a key/value head, so that the sums over its query heads have one order.
  ParallelTasks(shape.batch * K, [&](int64_t, int64_t task) {
    thread_local TileMatrix keys_Sh, queries_hq, queries_qh, dout_hq, dout_qh;
    thread_local Buffer<float> sums_room;
    thread_local Buffer<BFloat16> p_room;
    const int64_t b = task / K, kv = task % K;
    const int64_t first = shape.begin(b), S = shape.length(b);
    float* scores = sums_room.Reserve(2 * kQueryBlock * S + kQueryBlock * hd + 2 * S * hd);
    float* dp = scores + kQueryBlock * S;
    float* dq = dp + kQueryBlock * S;
    float* dk = dq + kQueryBlock * hd;
    float* dv = dk + S * hd;
    BFloat16* p = p_room.Reserve(2 * kQueryBlock * S);
    BFloat16* ds = p + kQueryBlock * S;
    std::fill_n(dk, 2 * S * hd, 0.0f);
    const BFloat16* rows = qkv + first * width;
    BFloat16* drows = dqkv + first * width;
    const BFloat16* keys = rows + (H + kv) * hd;
    const BFloat16* values = rows + (H + K + kv) * hd;
    keys_Sh.Pack(Matrix<const BFloat16>(keys, S, hd, width));
    for (int64_t h = kv * group; h < (kv + 1) * group; ++h) {
      const float* lse = log_sum_exp + first * H + h * S;
      for (int64_t q0 = 0; q0 < S; q0 += kQueryBlock) {
        const int64_t queries = std::min(kQueryBlock, S - q0), seen = q0 + queries;
        const int64_t out_offset = (first + q0) * out_width + h * hd;
        const Matrix<const BFloat16> q(rows + q0 * width + h * hd, queries, hd, width);
        const Matrix<const BFloat16> d_o(dout + out_offset, queries, hd, out_width);
        const Matrix<const BFloat16> p_block(p, seen, queries), ds_block(ds, seen, queries);
        float delta[kQueryBlock];
        for (int64_t i = 0; i < queries; ++i) {
          delta[i] = Dot(out + out_offset + i * out_width, dout + out_offset + i * out_width, hd);
        }

        queries_hq.Pack(q.Transposed());
        TileGemm(Matrix<const BFloat16>(keys, seen, hd, width), queries_hq, Output::kOverwrite,
                 Matrix<float>(scores, seen, queries));
        dout_hq.Pack(d_o.Transposed());
        TileGemm(Matrix<const BFloat16>(values, seen, hd, width), dout_hq, Output::kOverwrite,
                 Matrix<float>(dp, seen, queries));
        GradientsOfBlock(scores, dp, seen, queries, q0, scale, lse + q0, delta, p, ds);
        dout_qh.Pack(d_o);
        TileGemm(p_block, dout_qh, Output::kAdd, Matrix<float>(dv, seen, hd));
        queries_qh.Pack(q);
        TileGemm(ds_block, queries_qh, Output::kAdd, Matrix<float>(dk, seen, hd));
        TileGemm(ds_block.Transposed(), keys_Sh, Output::kOverwrite,
                 Matrix<float>(dq, queries, hd));
        RoundRows(dq, hd, queries, hd, drows + q0 * width + h * hd, width);
      }
    }
    RoundRows(dk, hd, S, hd, drows + (H + kv) * hd, width);
    RoundRows(dv, hd, S, hd, drows + (H + K + kv) * hd, width);
  });
}

}  // namespace moe::kernels
