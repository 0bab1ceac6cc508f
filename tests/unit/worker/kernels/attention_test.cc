#include "worker/kernels/attention.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/unit/worker/kernels/numbers.h"
#include "worker/kernels/attention_tiles.h"
#include "worker/kernels/tile_gemm.h"

namespace moe::kernels {
namespace {

using testing::Random;
using testing::ToBf16;
using testing::ToFp32;

// Attention as it is written down: one query at a time, in fp64.
struct NaiveAttention {
  const AttentionShape& shape;
  const std::vector<float>& qkv;

  double At(int64_t b, int64_t s, int64_t head, int64_t i) const {
    return qkv[((b * shape.sequence + s) * (shape.heads + 2 * shape.kv_heads) + head) *
                   shape.head_dim +
               i];
  }
  int64_t KeyHead(int64_t h) const { return shape.heads + h / (shape.heads / shape.kv_heads); }
  int64_t ValueHead(int64_t h) const { return KeyHead(h) + shape.kv_heads; }

  std::vector<double> Probabilities(int64_t b, int64_t h, int64_t query) const {
    std::vector<double> p(query + 1);
    double sum = 0;
    for (int64_t key = 0; key <= query; ++key) {
      double dot = 0;
      for (int64_t i = 0; i < shape.head_dim; ++i) {
        dot += At(b, query, h, i) * At(b, key, KeyHead(h), i);
      }
      p[key] = std::exp(dot / std::sqrt(static_cast<double>(shape.head_dim)));
      sum += p[key];
    }
    for (double& value : p) value /= sum;
    return p;
  }

  double Out(int64_t b, int64_t query, int64_t h, int64_t i) const {
    const std::vector<double> p = Probabilities(b, h, query);
    double sum = 0;
    for (int64_t key = 0; key <= query; ++key) sum += p[key] * At(b, key, ValueHead(h), i);
    return sum;
  }

  // sum(out * dout)
  double Loss(const std::vector<float>& dout) const {
    double loss = 0;
    int64_t index = 0;
    for (int64_t b = 0; b < shape.batch; ++b) {
      for (int64_t s = 0; s < shape.sequence; ++s) {
        for (int64_t h = 0; h < shape.heads; ++h) {
          for (int64_t i = 0; i < shape.head_dim; ++i) loss += dout[index++] * Out(b, s, h, i);
        }
      }
    }
    return loss;
  }
};

// Two blocks of queries and a part of a third; two query heads per key head.
constexpr AttentionShape kShape{
    .batch = 2, .sequence = 130, .heads = 4, .kv_heads = 2, .head_dim = 8};
constexpr int64_t kRows = kShape.batch * kShape.sequence;

TEST(Attention, Forward_EqualsTheDefinition) {
  const std::vector<float> qkv = Random(kRows * kShape.qkv_width(), 1);
  std::vector<float> out(kRows * kShape.out_width()), log_sum_exp(kRows * kShape.heads);
  AttentionForward<float>(kShape, qkv.data(), out.data(), log_sum_exp.data());

  const NaiveAttention naive{kShape, qkv};
  for (int64_t b = 0; b < kShape.batch; ++b) {
    for (int64_t s = 0; s < kShape.sequence; s += 13) {
      for (int64_t h = 0; h < kShape.heads; ++h) {
        for (int64_t i = 0; i < kShape.head_dim; ++i) {
          const int64_t index =
              (b * kShape.sequence + s) * kShape.out_width() + h * kShape.head_dim + i;
          ASSERT_NEAR(out[index], naive.Out(b, s, h, i), 2e-6)
              << "sample " << b << " position " << s << " head " << h;
        }
      }
    }
  }
}

TEST(Attention, Forward_DoesNotSeeTheFuture) {
  std::vector<float> qkv = Random(kRows * kShape.qkv_width(), 1);
  std::vector<float> before(kRows * kShape.out_width()), after(before.size());
  std::vector<float> log_sum_exp(kRows * kShape.heads);
  AttentionForward<float>(kShape, qkv.data(), before.data(), log_sum_exp.data());
  constexpr int64_t kChanged = 100;
  for (int64_t i = 0; i < kShape.qkv_width(); ++i) qkv[kChanged * kShape.qkv_width() + i] += 5;
  AttentionForward<float>(kShape, qkv.data(), after.data(), log_sum_exp.data());

  const auto row = [&](std::vector<float>& v, int64_t s) {
    return std::vector<float>(v.begin() + s * kShape.out_width(),
                              v.begin() + (s + 1) * kShape.out_width());
  };
  for (int64_t s = 0; s < kChanged; ++s) ASSERT_EQ(row(before, s), row(after, s)) << s;
  EXPECT_NE(row(before, kChanged), row(after, kChanged));
  EXPECT_EQ(row(before, kShape.sequence), row(after, kShape.sequence)) << "the next sample";
}

TEST(Attention, Backward_EqualsFiniteDifferences) {
  constexpr AttentionShape kSmall{
      .batch = 1, .sequence = 67, .heads = 2, .kv_heads = 1, .head_dim = 4};
  std::vector<float> qkv = Random(kSmall.sequence * kSmall.qkv_width(), 2);
  const std::vector<float> dout = Random(kSmall.sequence * kSmall.out_width(), 3);
  std::vector<float> out(dout.size()), log_sum_exp(kSmall.sequence * kSmall.heads);
  std::vector<float> dqkv(qkv.size());
  AttentionForward<float>(kSmall, qkv.data(), out.data(), log_sum_exp.data());
  AttentionBackward<float>(kSmall, dout.data(), qkv.data(), out.data(), log_sum_exp.data(),
                           dqkv.data());

  for (size_t i = 0; i < qkv.size(); i += 37) {
    const float saved = qkv[i], step = 1.0f / 256;  // exact in fp32
    qkv[i] = saved + step;
    const double up = NaiveAttention{kSmall, qkv}.Loss(dout);
    qkv[i] = saved - step;
    const double down = NaiveAttention{kSmall, qkv}.Loss(dout);
    qkv[i] = saved;
    const double slope = (up - down) / (static_cast<double>(saved + step) - (saved - step));
    ASSERT_NEAR(dqkv[i], slope, 1e-4) << i;
  }
}

using Forward = decltype(AttentionForward<c10::BFloat16>);
using Backward = decltype(AttentionBackward<c10::BFloat16>);

void ExpectFp32WithinRounding(Forward forward, Backward backward) {
  const auto qkv = ToBf16(Random(kRows * kShape.qkv_width(), 4));
  const auto dout = ToBf16(Random(kRows * kShape.out_width(), 5));
  const std::vector<float> qkv_fp32 = ToFp32(qkv), dout_fp32 = ToFp32(dout);
  std::vector<c10::BFloat16> out(dout.size()), dqkv(qkv.size());
  std::vector<float> out_fp32(dout.size()), dqkv_fp32(qkv.size());
  std::vector<float> log_sum_exp(kRows * kShape.heads);
  forward(kShape, qkv.data(), out.data(), log_sum_exp.data());
  backward(kShape, dout.data(), qkv.data(), out.data(), log_sum_exp.data(), dqkv.data());
  AttentionForward<float>(kShape, qkv_fp32.data(), out_fp32.data(), log_sum_exp.data());
  AttentionBackward<float>(kShape, dout_fp32.data(), qkv_fp32.data(), out_fp32.data(),
                           log_sum_exp.data(), dqkv_fp32.data());
  for (size_t i = 0; i < out.size(); ++i) ASSERT_NEAR(out[i], out_fp32[i], 4e-3) << i;
  for (size_t i = 0; i < dqkv.size(); ++i) {
    ASSERT_NEAR(dqkv[i], dqkv_fp32[i], 4e-3 + 1e-2 * std::abs(dqkv_fp32[i])) << i;
  }
}

TEST(Attention, Bf16_EqualsFp32OfTheSameInputsWithinRounding) {
  ExpectFp32WithinRounding(AttentionForward<c10::BFloat16>, AttentionBackward<c10::BFloat16>);
}

TEST(Attention, Tiles_EqualFp32OfTheSameInputsWithinRounding) {
  if (!CpuMultipliesBf16()) GTEST_SKIP() << "this CPU does not multiply bf16";
  ExpectFp32WithinRounding(AttentionForwardTiles, AttentionBackwardTiles);
}

// Stretches of one call, and each in a call of its own.
template <typename T>
void CompareStretchesWithEachAlone(const std::vector<T>& qkv, const std::vector<T>& dout) {
  const std::vector<int64_t> ends = {70, 71, 76, 128, kRows};
  AttentionShape together = kShape;
  together.batch = std::ssize(ends);
  together.sequence = 0;
  together.ends = ends;
  std::vector<T> out(dout.size()), dqkv(qkv.size());
  std::vector<float> log_sum_exp(kRows * kShape.heads);
  AttentionForward<T>(together, qkv.data(), out.data(), log_sum_exp.data());
  AttentionBackward<T>(together, dout.data(), qkv.data(), out.data(), log_sum_exp.data(),
                       dqkv.data());

  std::vector<T> each_out(dout.size()), each_dqkv(qkv.size());
  for (int64_t b = 0; b < together.batch; ++b) {
    AttentionShape alone = kShape;
    alone.batch = 1;
    alone.sequence = together.length(b);
    const int64_t row = together.begin(b);
    const T* in = qkv.data() + row * kShape.qkv_width();
    T* result = each_out.data() + row * kShape.out_width();
    AttentionForward<T>(alone, in, result, log_sum_exp.data());
    AttentionBackward<T>(alone, dout.data() + row * kShape.out_width(), in, result,
                         log_sum_exp.data(), each_dqkv.data() + row * kShape.qkv_width());
  }
  EXPECT_EQ(out, each_out);
  EXPECT_EQ(dqkv, each_dqkv);
}

TEST(Attention, StretchesOfAnyLength_GiveTheBitsOfEachAlone) {
  const std::vector<float> qkv = Random(kRows * kShape.qkv_width(), 6);
  const std::vector<float> dout = Random(kRows * kShape.out_width(), 7);
  CompareStretchesWithEachAlone(qkv, dout);
  CompareStretchesWithEachAlone(ToBf16(qkv), ToBf16(dout));
}

}  // namespace
}  // namespace moe::kernels
