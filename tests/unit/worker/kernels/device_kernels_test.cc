// The kernels of the device step. That they compute what they should is tested by the model on
// HostStepKernels (tests/numerics/model_gradient_test.cc); here: that a team of many threads, as a
// GPU runs them, computes what one thread does, and the edges that no model comes to.
#include <c10/util/BFloat16.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

#include "tests/unit/worker/kernels/numbers.h"
#include "tests/unit/worker/kernels/thread_team.h"
#include "worker/kernels/device/host_step_kernels.h"

namespace moe::kernels::device {
namespace {

using kernels::testing::Random;
using ::testing::Each;
using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::Pointwise;

std::vector<Bf16> RandomBf16(int64_t count, uint32_t substream) {
  std::vector<Bf16> values(static_cast<size_t>(count));
  const std::vector<float> random = Random(count, substream);
  for (size_t i = 0; i < values.size(); ++i) FromFloat32(random[i], values[i]);
  return values;
}

std::vector<float> Zeros(int64_t count) { return std::vector<float>(static_cast<size_t>(count)); }

// Runs the kernel that make(out) returns on one thread and on teams; both are to leave the same in
// `out`, but for the order of additions.
template <typename T = float, typename Out, typename Make>
void ExpectTeamsAgree(std::vector<Out> out, const Make& make, float tolerance = 1e-5f) {
  std::vector<Out> by_teams = out;
  HostStepKernels().Run(make(out));
  testing::RunWithTeams<T>(make(by_teams));
  for (size_t i = 0; i < out.size(); ++i) {
    if constexpr (std::is_same_v<Out, Bf16>) {
      ASSERT_NEAR(ToFloat32(out[i]), ToFloat32(by_teams[i]), 1e-2f) << i;
    } else {
      ASSERT_NEAR(out[i], by_teams[i], tolerance) << i;
    }
  }
}

TEST(Bf16, EqualsLibTorchs) {
  std::vector<float> values = Random(10'000, 1);
  for (const float value :
       {0.0f, -0.0f, 1.0f + 0x1p-8f, 1.0f + 0x1.8p-7f, 3e38f,
        std::numeric_limits<float>::infinity(), -std::numeric_limits<float>::infinity(), 1e-40f}) {
    values.push_back(value);
  }
  for (const float value : values) {
    Bf16 rounded;
    FromFloat32(value, rounded);
    EXPECT_EQ(rounded.bits, c10::BFloat16(value).x) << value;
    EXPECT_EQ(ToFloat32(rounded), static_cast<float>(c10::BFloat16(value)));
  }
  Bf16 nan;
  FromFloat32(std::numeric_limits<float>::quiet_NaN(), nan);
  EXPECT_TRUE(std::isnan(ToFloat32(nan)));
}

// Widths with and without whole packs of four.
class TeamTest : public ::testing::TestWithParam<int64_t> {
 protected:
  const int64_t d_ = GetParam();
  const int64_t rows_ = 5;
  const std::vector<float> a_ = Random(rows_ * d_, 2), b_ = Random(rows_ * d_, 3),
                           weight_ = Random(d_, 4);
  const std::vector<Bf16> narrow_ = RandomBf16(rows_ * 2 * d_, 5);
};

TEST_P(TeamTest, RmsNorm) {
  ExpectTeamsAgree<float>(Zeros(rows_ * d_), [&](std::vector<float>& y) {
    return RmsNormForward{.rows = rows_,
                          .type = ElementType::kFp32,
                          .d = d_,
                          .eps = 1e-5f,
                          .x = a_.data(),
                          .weight = weight_.data(),
                          .y = y.data(),
                          .y_fp32 = nullptr,
                          .rstd = nullptr};
  });
  const std::vector<float> rstd = Random(rows_, 6);
  ExpectTeamsAgree<float>(Random(rows_ * d_, 7), [&](std::vector<float>& dx) {
    return RmsNormBackward{.rows = rows_,
                           .d = d_,
                           .dy = b_.data(),
                           .x = a_.data(),
                           .weight = weight_.data(),
                           .rstd = rstd.data(),
                           .dx = dx.data()};
  });
  ExpectTeamsAgree<float>(Zeros(d_), [&](std::vector<float>& partial) {
    return RmsNormWeightGradient{.rows = 1,
                                 .d = d_,
                                 .num_rows = rows_,
                                 .dy = b_.data(),
                                 .x = a_.data(),
                                 .rstd = rstd.data(),
                                 .partial = partial.data()};
  });
}

TEST_P(TeamTest, RotateHeads) {
  const std::vector<float> cos = Random(3 * d_, 8), sin = Random(3 * d_, 9);
  const std::vector<int32_t> positions = {0, 1, 2, 1, 0};
  ExpectTeamsAgree<Bf16>(narrow_, [&](std::vector<Bf16>& x) {
    return RotateHeads{.rows = rows_,
                       .type = ElementType::kBf16,
                       .heads = 1,
                       .half = d_,
                       .stride = 2 * d_,
                       .sign = -1,
                       .positions = positions.data(),
                       .cos = cos.data(),
                       .sin = sin.data(),
                       .x = x.data()};
  });
}

TEST_P(TeamTest, Swiglu) {
  const std::vector<float> scale = Random(rows_, 10);
  const std::vector<Bf16> dh = RandomBf16(rows_ * d_, 11);
  ExpectTeamsAgree<Bf16>(RandomBf16(rows_ * d_, 12), [&](std::vector<Bf16>& h) {
    return SwigluForward{.rows = rows_,
                         .type = ElementType::kBf16,
                         .n = d_,
                         .gate_up = narrow_.data(),
                         .scale = scale.data(),
                         .h = h.data()};
  });
  std::vector<Bf16> dgate_up(narrow_.size()), h(dh.size());
  ExpectTeamsAgree<Bf16>(Zeros(rows_), [&](std::vector<float>& dscale) {
    return SwigluBackward{.rows = rows_,
                          .type = ElementType::kBf16,
                          .n = d_,
                          .dh = dh.data(),
                          .gate_up = narrow_.data(),
                          .scale = scale.data(),
                          .dgate_up = dgate_up.data(),
                          .dscale = dscale.data(),
                          .h = h.data()};
  });
}

TEST_P(TeamTest, CrossEntropy) {
  const std::vector<int64_t> targets = {0, d_ - 1, -1, d_ / 2, 1};
  std::vector<float> losses(5), team_losses(5), logits = a_, team_logits = a_;
  const auto kernel = [&](std::vector<float>& to, std::vector<float>& at) {
    return CrossEntropy{.rows = rows_,
                        .type = ElementType::kFp32,
                        .vocabulary = d_,
                        .targets = targets.data(),
                        .has_gradient = true,
                        .scale = 0.5f,
                        .logits = at.data(),
                        .losses = to.data()};
  };
  HostStepKernels().Run(kernel(losses, logits));
  testing::RunWithTeams<float>(kernel(team_losses, team_logits));
  EXPECT_THAT(team_losses, Pointwise(FloatNear(1e-5f), losses));
  EXPECT_THAT(team_logits, Pointwise(FloatNear(1e-6f), logits));
  EXPECT_EQ(losses[2], 0.0f) << "no target";
  for (int64_t c = 0; c < d_; ++c) EXPECT_EQ(logits[static_cast<size_t>(2 * d_ + c)], 0.0f);
}

TEST_P(TeamTest, Rows_GatheredAndCombined) {
  const std::vector<int32_t> slot_of_row = {4, 0, 1, 3, 2}, row_of_slot = {1, 2, 4, 3, 0, -1};
  ExpectTeamsAgree<Bf16>(RandomBf16(rows_ * d_, 13), [&](std::vector<Bf16>& to) {
    return GatherRows{.rows = 5,
                      .type = ElementType::kBf16,
                      .d = d_,
                      .top_k = 2,
                      .slot_of_row = slot_of_row.data(),
                      .x = narrow_.data(),
                      .to = to.data()};
  });
  ExpectTeamsAgree<Bf16>(Zeros(3 * d_), [&](std::vector<float>& y) {
    return CombineRows{.rows = 3,
                       .type = ElementType::kBf16,
                       .d = d_,
                       .top_k = 2,
                       .row_of_slot = row_of_slot.data(),
                       .from = narrow_.data(),
                       .base = a_.data(),
                       .y = y.data()};
  });
}

TEST_P(TeamTest, EmbeddingGradient) {
  const std::vector<int32_t> ids = {1, 3}, ends = {3, 5}, tokens = {0, 2, 4, 1, 3};
  ExpectTeamsAgree<float>(Random(4 * d_, 14), [&](std::vector<float>& into) {
    return EmbeddingGradient{.rows = 2,
                             .d = d_,
                             .ids = ids.data(),
                             .ends = ends.data(),
                             .tokens = tokens.data(),
                             .dx = a_.data(),
                             .into = into.data()};
  });
}

INSTANTIATE_TEST_SUITE_P(Widths, TeamTest, ::testing::Values(7, 16, 100));

// Arenas of several parts.
class ArenaTest : public ::testing::Test {
 protected:
  static constexpr int64_t kNumel = 3 * AdamW::kElementsPerPart + 64;
};

TEST_F(ArenaTest, AdamW_ByTeams) {
  const AdamWCoefficients coefficients = {.decay = 0.9f,
                                          .beta1 = 0.9f,
                                          .one_minus_beta1 = 0.1f,
                                          .beta2 = 0.95f,
                                          .one_minus_beta2 = 0.05f,
                                          .step_size = 0.01f,
                                          .sqrt_bias_correction2 = 0.5f,
                                          .epsilon = 1e-8f,
                                          .gradient_scale = 0.5f};
  const auto run = [&](auto&& execute) {
    std::vector<std::vector<float>> arenas = {Random(kNumel, 1), Random(kNumel, 2),
                                              Random(kNumel, 3), Random(kNumel, 4)};
    for (float& v : arenas[3]) v *= v;
    execute(AdamW{.rows = PartsOf(kNumel, AdamW::kElementsPerPart),
                  .numel = kNumel,
                  .coefficients = coefficients,
                  .parameters = arenas[0].data(),
                  .gradients = arenas[1].data(),
                  .exp_avg = arenas[2].data(),
                  .exp_avg_sq = arenas[3].data()});
    return arenas;
  };
  const auto alone = run([](const AdamW& kernel) { HostStepKernels().Run(kernel); });
  const auto by_teams = run([](const AdamW& kernel) { testing::RunWithTeams<float>(kernel); });
  for (size_t i = 0; i < 4; ++i) EXPECT_EQ(alone[i], by_teams[i]);
  EXPECT_THAT(alone[1], Each(0.0f)) << "the update clears gradients";
  EXPECT_NE(alone[0], Random(kNumel, 1));
}

TEST_F(ArenaTest, SumSquares_ByTeams) {
  constexpr int64_t kMany = 2 * SumSquares::kElementsPerPart + 12;
  const std::vector<float> values = Random(kMany, 5);
  ExpectTeamsAgree<float>(std::vector<double>(3), [&](std::vector<double>& sums) {
    return SumSquares{.rows = 3, .numel = kMany, .values = values.data(), .sums = sums.data()};
  });
}

TEST_F(ArenaTest, AddExpertGradients_LeavesOutExpertsWithoutRows) {
  constexpr int64_t kExpert = AddExpertGradients::kElementsPerPart + 8;
  const std::vector<int32_t> row_ends = {2, 2, 7};
  std::vector<float> from = Random(3 * kExpert, 6);
  // What a grouped product may leave for the expert without rows.
  std::fill_n(from.begin() + kExpert, kExpert, std::numeric_limits<float>::quiet_NaN());
  std::vector<float> into = Zeros(3 * kExpert), by_teams = into;
  const auto kernel = [&](std::vector<float>& to) {
    return AddExpertGradients{.rows = 3 * 2,
                              .type = ElementType::kFp32,
                              .numel = kExpert,
                              .row_ends = row_ends.data(),
                              .from = from.data(),
                              .into = to.data()};
  };
  HostStepKernels().Run(kernel(into));
  testing::RunWithTeams<float>(kernel(by_teams));
  EXPECT_EQ(into, by_teams);
  for (int64_t i = 0; i < 3 * kExpert; ++i) {
    const bool has_rows = i < kExpert || i >= 2 * kExpert;
    ASSERT_EQ(into[static_cast<size_t>(i)], has_rows ? from[static_cast<size_t>(i)] : 0.0f) << i;
  }
}

// Runs CountSlots and PlaceRows, on one thread or by teams.
struct Placed {
  std::vector<int32_t> row_of_slot, slot_of_row, counts;
};
template <typename Execute>
Placed Place(const std::vector<int32_t>& order, int32_t top_k, int32_t stride, int32_t experts,
             const Execute& execute) {
  const int64_t slots = std::ssize(order) / stride * top_k, blocks = PartsOf(slots, kSlotsPerBlock);
  const Choices choices = {.order = order.data(), .top_k = top_k, .stride = stride};
  Placed placed = {.row_of_slot = std::vector<int32_t>(static_cast<size_t>(slots), -7),
                   .slot_of_row = std::vector<int32_t>(static_cast<size_t>(slots), 0),
                   .counts = std::vector<int32_t>(static_cast<size_t>(experts * blocks))};
  execute(CountSlots{.rows = blocks,
                     .num_slots = slots,
                     .num_experts = experts,
                     .choices = choices,
                     .counts = placed.counts.data()});
  std::vector<int64_t> ends;
  for (const int32_t count : placed.counts)
    ends.push_back((ends.empty() ? 0 : ends.back()) + count);
  execute(PlaceRows{.rows = blocks,
                    .num_slots = slots,
                    .num_experts = experts,
                    .choices = choices,
                    .counts = placed.counts.data(),
                    .ends = ends.data(),
                    .row_of_slot = placed.row_of_slot.data(),
                    .slot_of_row = placed.slot_of_row.data()});
  return placed;
}

TEST(DispatchKernels, PlaceRows_AreGroupedByExpertInTheOrderOfTheSlots) {
  // Two of three experts per token count; the third column is the runner-up.
  const std::vector<int32_t> order = {2, 0, 1, 0, 1, 2, 2, -1, 0};
  const Placed placed = Place(order, 2, 3, 3, [](const auto& k) { HostStepKernels().Run(k); });
  EXPECT_THAT(placed.row_of_slot, ElementsAre(3, 0, 1, 2, 4, -1));
  EXPECT_THAT(placed.slot_of_row, ElementsAre(1, 2, 3, 0, 4, 0)) << "the last is nobody's";
}

TEST(DispatchKernels, PlaceRows_OfManyBlocksAndExperts_ByTeams) {
  std::vector<int32_t> order;
  for (const float value : Random(2000, 7)) {
    order.push_back(std::min(static_cast<int32_t>((value + 1) * 4.5f) - 1, 7));
  }
  const Placed alone = Place(order, 1, 1, 8, [](const auto& k) { HostStepKernels().Run(k); });
  const Placed teams =
      Place(order, 1, 1, 8, [](const auto& k) { testing::RunWithTeams<float>(k); });
  EXPECT_EQ(alone.row_of_slot, teams.row_of_slot);
  EXPECT_EQ(alone.slot_of_row, teams.slot_of_row);
  int32_t previous = -1;
  for (size_t slot = 0; slot < order.size(); ++slot) {
    if (order[slot] < 0) {
      EXPECT_EQ(alone.row_of_slot[slot], -1);
      continue;
    }
    EXPECT_EQ(alone.slot_of_row[static_cast<size_t>(alone.row_of_slot[slot])], slot);
    if (order[slot] == 0) {
      EXPECT_EQ(alone.row_of_slot[slot], ++previous);
    }
  }
}

// What a gate without noise makes of one token's logits.
struct Gated {
  Gated(const std::vector<float>& logits, int top_k)
      : z(logits.size()),
        scores(top_k),
        by_expert(logits.size()),
        load(logits.size()),
        order(top_k + 1, -1) {
    HostStepKernels().Run(GateForward{.rows = 1,
                                      .num_experts = static_cast<int>(logits.size()),
                                      .top_k = top_k,
                                      .load_test = LoadTest::kNoisyLogit,
                                      .epsilon = 0.01f,
                                      .logits = logits.data(),
                                      .noise = nullptr,
                                      .raw_sigma = nullptr,
                                      .z = z.data(),
                                      .order = order.data(),
                                      .scores = scores.data(),
                                      .expert_scores = by_expert.data(),
                                      .load = load.data()});
  }

  std::vector<float> z, scores, by_expert, load;
  std::vector<int32_t> order;
};

TEST(GateKernels, GateForward_NanLogits_StillNamesExperts) {
  const Gated gated(std::vector<float>(4, std::numeric_limits<float>::quiet_NaN()), 2);
  EXPECT_THAT(gated.order, Each(::testing::AllOf(::testing::Ge(0), ::testing::Lt(4))));
}

TEST(GateKernels, GateForward_Ties_GoToTheLowerExpert) {
  const Gated gated({1, 3, 3, 2, 3}, 3);
  EXPECT_THAT(gated.order, ElementsAre(1, 2, 4, 3));
  EXPECT_THAT(gated.scores, Each(FloatNear(1.0f / 3, 1e-6f)));
  EXPECT_THAT(gated.load, ElementsAre(0, 1, 1, 0, 1));
}

}  // namespace
}  // namespace moe::kernels::device
