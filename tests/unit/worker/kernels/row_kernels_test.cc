// Kernels that work row by row, against their definitions in fp64.
#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "tests/unit/worker/kernels/numbers.h"
#include "worker/kernels/cross_entropy.h"
#include "worker/kernels/dispatch.h"
#include "worker/kernels/rms_norm.h"
#include "worker/kernels/rope.h"
#include "worker/kernels/swiglu.h"
#include "worker/kernels/vector_math.h"

namespace moe::kernels {
namespace {

using ::testing::Each;
using ::testing::ElementsAre;
using testing::Random;

TEST(Exp, WholeRange_IsWithinTwoUlp) {
  for (float x = -87.0f; x < 87.0f; x += 0.0137f) {
    const double expected = std::exp(static_cast<double>(x));
    ASSERT_NEAR(Exp(x), expected, 2.5e-7 * expected) << x;
  }
  EXPECT_EQ(Exp(0.0f), 1.0f);
  EXPECT_EQ(Exp(-1e30f), Exp(-87.0f));
  EXPECT_EQ(Exp(1e30f), Exp(87.0f));
  EXPECT_TRUE(std::isnan(Exp(std::numeric_limits<float>::quiet_NaN())));
}

TEST(VectorMath, GateFunctions_AreWithinAFewUlpOfTheLibrary) {
  for (float x = -30.0f; x < 30.0f; x += 0.00731f) {
    const double softplus = std::log1p(std::exp(double{x}));
    ASSERT_NEAR(Softplus(x), softplus, 4e-7 * softplus) << x;
    ASSERT_NEAR(Tanh(x), std::tanh(double{x}), 4e-7 * std::abs(std::tanh(double{x}))) << x;
    ASSERT_NEAR(Erf(x), std::erf(double{x}), 5e-7) << x;
  }
  for (float x = 0x1p-40f; x <= 1.0f; x *= 1.25f) {
    ASSERT_NEAR(Log1p(x), std::log1p(double{x}), 4e-7 * x) << x;
    ASSERT_NEAR(Tanh(x), std::tanh(double{x}), 4e-7 * x) << x;
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const float y : {Softplus(nan), Tanh(nan), Erf(nan), Log1p(nan)}) {
    EXPECT_TRUE(std::isnan(y));
  }
}

TEST(FromFloat, Bf16_RoundsToNearestEvenAndKeepsNan) {
  EXPECT_EQ(ToFloat(FromFloat<c10::BFloat16>(1.0f + 0x1p-8f)), 1.0f) << "tie to even";
  EXPECT_EQ(ToFloat(FromFloat<c10::BFloat16>(1.0f + 0x1.8p-7f)), 1.0f + 0x1p-6f) << "tie to even";
  EXPECT_EQ(ToFloat(FromFloat<c10::BFloat16>(1.0f + 0x1.1p-8f)), 1.0f + 0x1p-7f);
  EXPECT_TRUE(
      std::isnan(ToFloat(FromFloat<c10::BFloat16>(std::numeric_limits<float>::quiet_NaN()))));
  EXPECT_TRUE(
      std::isinf(ToFloat(FromFloat<c10::BFloat16>(std::numeric_limits<float>::infinity()))));
}

TEST(CrossEntropy, LargeLogitsInBlocks_GiveExactLossAndGradient) {
  // Differences matter, not sizes: exp(900) would overflow. The largest is not in the first block.
  const std::vector<float> logits = {900.0f, 899.0f, 901.0f, 898.0f, 700.0f};
  SoftmaxSum sum;
  AddLogits(logits.data(), 2, sum);
  AddLogits(logits.data() + 2, 3, sum);
  const double total = std::exp(-1.0) + std::exp(-2.0) + 1 + std::exp(-3.0);
  EXPECT_NEAR(sum.Loss(901.0f), std::log(total), 1e-6);
  EXPECT_NEAR(sum.Loss(700.0f), std::log(total) + 201, 1e-4);
  std::vector<float> gradients(logits.begin() + 2, logits.end());
  ScaledProbabilities(sum, /*scale=*/0.5f, 3, gradients.data());
  EXPECT_NEAR(gradients[0], 0.5 / total, 1e-6);
  EXPECT_NEAR(gradients[1], 0.5 * std::exp(-3.0) / total, 1e-6);
  EXPECT_NEAR(gradients[2], 0.0, 1e-12);
  EXPECT_NEAR(TargetGradient(901.0f, sum, /*scale=*/0.5f), 0.5 * (1 / total - 1), 1e-6);
}

TEST(RmsNorm, Backward_EqualsFiniteDifferencesWhateverTheThreads) {
  constexpr int64_t kRows = 70, kWidth = 12;
  constexpr float kEps = 1e-5f;
  std::vector<float> x = Random(kRows * kWidth, 1), weight = Random(kWidth, 2);
  const std::vector<float> dy = Random(kRows * kWidth, 3);
  auto loss = [&] {
    double sum = 0;
    for (int64_t r = 0; r < kRows; ++r) {
      double squares = 0;
      for (int64_t i = 0; i < kWidth; ++i) squares += double{x[r * kWidth + i]} * x[r * kWidth + i];
      const double rstd = 1 / std::sqrt(squares / kWidth + kEps);
      for (int64_t i = 0; i < kWidth; ++i) {
        sum += double{dy[r * kWidth + i]} * x[r * kWidth + i] * rstd * weight[i];
      }
    }
    return sum;
  };
  std::vector<float> y(x.size()), rstd(kRows), dx(x.size(), 0.0f), dweight(kWidth, 0.0f);
  RmsNormForward(x.data(), weight.data(), kRows, kWidth, kEps, y.data(), rstd.data());
  at::set_num_threads(1);
  RmsNormBackward(dy.data(), x.data(), weight.data(), rstd.data(), kRows, kWidth, dx.data(),
                  dweight.data());
  auto slope = [&](float& parameter) {
    const float saved = parameter, step = 1.0f / 1024;
    parameter = saved + step;
    const double up = loss(), high = parameter;
    parameter = saved - step;
    const double difference = (up - loss()) / (high - parameter);
    parameter = saved;
    return difference;
  };
  for (size_t i = 0; i < x.size(); i += 31) ASSERT_NEAR(dx[i], slope(x[i]), 2e-4) << i;
  for (int64_t i = 0; i < kWidth; ++i) ASSERT_NEAR(dweight[i], slope(weight[i]), 2e-4) << i;

  at::set_num_threads(2);
  std::vector<float> dx_2(x.size(), 0.0f), dweight_2(kWidth, 0.0f);
  RmsNormBackward(dy.data(), x.data(), weight.data(), rstd.data(), kRows, kWidth, dx_2.data(),
                  dweight_2.data());
  EXPECT_EQ(dweight, dweight_2);
  EXPECT_EQ(dx, dx_2);
}

TEST(Rope, InverseUndoesForwardAndValuesStay) {
  constexpr int64_t kSequence = 5, kRows = 2 * kSequence, kHead = 6, kStride = 3 * kHead;
  std::vector<double> frequencies;
  for (int64_t i = 0; i < kHead / 2; ++i)
    frequencies.push_back(std::pow(10000.0, -2.0 * i / kHead));
  const RopeTable table(kSequence, frequencies);
  std::vector<int32_t> positions;
  for (int64_t r = 0; r < kRows; ++r) positions.push_back(static_cast<int32_t>(r % kSequence));
  const std::vector<float> original = Random(kRows * kStride, 1);
  std::vector<float> x = original;
  Rope(table, Rotation::kForward, positions, /*heads=*/2, x.data(), kStride);
  // Position 3 of the second sample, second head, pair 1.
  const int64_t row = (kSequence + 3) * kStride, a = row + kHead + 1, b = a + kHead / 2;
  const double angle = 3 * std::pow(10000.0, -2.0 / kHead);
  EXPECT_NEAR(x[a], original[a] * std::cos(angle) - original[b] * std::sin(angle), 1e-6);
  EXPECT_NEAR(x[b], original[b] * std::cos(angle) + original[a] * std::sin(angle), 1e-6);
  EXPECT_EQ(x[row + 2 * kHead], original[row + 2 * kHead]) << "the third head is not rotated";
  Rope(table, Rotation::kInverse, positions, /*heads=*/2, x.data(), kStride);
  for (size_t i = 0; i < x.size(); ++i) ASSERT_NEAR(x[i], original[i], 1e-6) << i;
}

TEST(SwiGlu, Backward_EqualsFiniteDifferences) {
  constexpr int64_t kRows = 3, kWidth = 5;
  std::vector<float> gate_up = Random(kRows * 2 * kWidth, 1), scale = Random(kRows, 2);
  const std::vector<float> dh = Random(kRows * kWidth, 3);
  auto loss = [&] {
    double sum = 0;
    for (int64_t r = 0; r < kRows; ++r) {
      for (int64_t i = 0; i < kWidth; ++i) {
        const double g = gate_up[r * 2 * kWidth + i], u = gate_up[r * 2 * kWidth + kWidth + i];
        sum += dh[r * kWidth + i] * scale[r] * g / (1 + std::exp(-g)) * u;
      }
    }
    return sum;
  };
  std::vector<float> h(kRows * kWidth), h_again(h.size()), dgate_up(gate_up.size()), dscale(kRows);
  SwiGluForward<float>(gate_up.data(), scale.data(), kRows, kWidth, h.data());
  SwiGluBackward<float>(dh.data(), gate_up.data(), scale.data(), kRows, kWidth, dgate_up.data(),
                        dscale.data(), h_again.data());
  for (size_t i = 0; i < h.size(); ++i) ASSERT_NEAR(h[i], h_again[i], 1e-6);
  auto slope = [&](float& parameter) {
    const float saved = parameter, step = 1.0f / 1024;
    parameter = saved + step;
    const double up = loss(), high = parameter;
    parameter = saved - step;
    const double difference = (up - loss()) / (high - parameter);
    parameter = saved;
    return difference;
  };
  for (size_t i = 0; i < gate_up.size(); ++i) ASSERT_NEAR(dgate_up[i], slope(gate_up[i]), 1e-5);
  for (int64_t r = 0; r < kRows; ++r) ASSERT_NEAR(dscale[r], slope(scale[r]), 1e-5);
}

TEST(Dispatch, GroupsRowsByExpertInTokenOrderAndCombinesThem) {
  const std::vector<int32_t> experts = {2, 0, 0, 2, 2, 3};  // three tokens, two slots
  Dispatch dispatch;
  dispatch.Build(experts.data(), /*num_tokens=*/3, /*slots_per_token=*/2, /*num_experts=*/4);
  EXPECT_THAT(dispatch.first_row, ElementsAre(0, 2, 2, 5, 6));
  EXPECT_THAT(dispatch.token_of_row, ElementsAre(0, 1, 0, 1, 2, 2));
  EXPECT_THAT(dispatch.row_of_slot, ElementsAre(2, 0, 1, 3, 4, 5));

  const std::vector<float> x = {10, 11, 20, 21, 30, 31};
  const Matrix<const float> matrix(x.data(), 3, 2);
  std::vector<float> rows(6), right(3), y(6), all(12);
  GatherRows(dispatch, /*first_row=*/2, /*rows=*/3, matrix, rows.data());
  EXPECT_THAT(rows, ElementsAre(10, 11, 20, 21, 30, 31));
  GatherRows(dispatch, /*first_row=*/0, /*rows=*/3, matrix.Columns(1, 1), right.data());
  EXPECT_THAT(right, ElementsAre(11, 21, 11));
  GatherRows(dispatch, 0, 6, matrix, all.data());
  CombineRows(dispatch, all.data(), 2, /*base=*/nullptr, y.data());
  EXPECT_THAT(y, ElementsAre(20, 22, 40, 42, 60, 62));
}

TEST(Dispatch, SlotsThatGoNowhere_HaveNoRowAndAddNothing) {
  const std::vector<int32_t> experts = {1, Dispatch::kNone, 1, Dispatch::kNone};
  Dispatch dispatch;
  dispatch.Build(experts.data(), /*num_tokens=*/4, /*slots_per_token=*/1, /*num_experts=*/2);
  EXPECT_EQ(dispatch.rows(), 2);
  EXPECT_THAT(dispatch.first_row, ElementsAre(0, 0, 2));
  EXPECT_THAT(dispatch.slot_of_row, ElementsAre(0, 2));
  EXPECT_THAT(dispatch.row_of_slot, ElementsAre(0, Dispatch::kNone, 1, Dispatch::kNone));

  const std::vector<float> rows = {5, 7};
  const std::vector<float> base = {1, 2, 3, 4};
  std::vector<float> y(4);
  CombineRows(dispatch, rows.data(), /*d=*/1, base.data(), y.data());
  EXPECT_THAT(y, ElementsAre(6, 2, 10, 4));
}

}  // namespace
}  // namespace moe::kernels
