#include "worker/training/adamw.h"

#include <ATen/Parallel.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "common/philox.h"
#include "tests/unit/worker/training/tiny_run.h"

namespace moe::training {
namespace {

std::vector<float> Normal(uint32_t which, int64_t count, float scale) {
  std::vector<float> values(static_cast<size_t>(count));
  for (int64_t i = 0; i < count; ++i) {
    values[static_cast<size_t>(i)] =
        scale * Normal4(Philox(1227, RandomStream::kTest, which, static_cast<uint64_t>(i)))[0];
  }
  return values;
}

struct State {
  explicit State(int64_t count)
      : p(Normal(0, count, 0.5f)), g(Normal(1, count, 0.1f)), m(Normal(2, count, 0.01f)) {
    v = Normal(3, count, 0.01f);
    for (float& value : v) value *= value;
  }
  std::vector<float> p, g, m, v;
};

// The formula of torch.optim.AdamW, one element at a time in double precision.
void Reference(const AdamWOptions& options, bool decay, int64_t step, double learning_rate,
               double scale, size_t begin, size_t end, State& s) {
  for (size_t i = begin; i < end; ++i) {
    const double gradient = s.g[i] * scale;
    double p = s.p[i];
    if (decay) p -= learning_rate * options.weight_decay * p;
    const double m = options.beta1 * s.m[i] + (1 - options.beta1) * gradient;
    const double v = options.beta2 * s.v[i] + (1 - options.beta2) * gradient * gradient;
    const double m_hat = m / (1 - std::pow(options.beta1, step));
    const double v_hat = v / (1 - std::pow(options.beta2, step));
    p -= learning_rate * m_hat / (std::sqrt(v_hat) + options.epsilon);
    s.p[i] = static_cast<float>(p);
    s.m[i] = static_cast<float>(m);
    s.v[i] = static_cast<float>(v);
  }
}

class AdamWTest : public testing::Test {
 protected:
  // An odd length, so that vector loops have remainders, and more than one block.
  static constexpr int64_t kCount = 3 * (1 << 16) + 77;
  // A range that does not start at 0, with an undecayed piece in the middle.
  const std::vector<DecaySegment> segments_ = {
      {{64, 64 + 1000}, true}, {{1064, 1064 + 500}, false}, {{1564, 64 + kCount}, true}};
  const AdamWOptions options_ = {.weight_decay = 0.3};
};

TEST_F(AdamWTest, Step_MixedDecay_EqualsScalarFormula) {
  State fast(kCount), plain(kCount);
  const double learning_rate = 3e-3, scale = 0.7;
  AdamWStep(options_, segments_, 3, learning_rate, scale, fast.p.data(), fast.g.data(),
            fast.m.data(), fast.v.data());
  for (const DecaySegment& segment : segments_) {
    Reference(options_, segment.decay, 3, learning_rate, scale,
              static_cast<size_t>(segment.range.begin - 64),
              static_cast<size_t>(segment.range.end - 64), plain);
  }
  for (size_t i = 0; i < static_cast<size_t>(kCount); ++i) {
    ASSERT_NEAR(fast.p[i], plain.p[i], 1e-6) << i;
    ASSERT_NEAR(fast.m[i], plain.m[i], 1e-8) << i;
    ASSERT_NEAR(fast.v[i], plain.v[i], 1e-9) << i;
    ASSERT_EQ(fast.g[i], 0.0f) << "gradients are cleared for the next step, " << i;
  }
}

TEST_F(AdamWTest, Step_AnyNumberOfThreads_SameBits) {
  State one(kCount), two(kCount);
  at::set_num_threads(1);
  const double norm_one = SumOfSquares(one.g.data(), kCount);
  AdamWStep(options_, segments_, 1, 1e-3, 1.0, one.p.data(), one.g.data(), one.m.data(),
            one.v.data());
  at::set_num_threads(2);
  const double norm_two = SumOfSquares(two.g.data(), kCount);
  AdamWStep(options_, segments_, 1, 1e-3, 1.0, two.p.data(), two.g.data(), two.m.data(),
            two.v.data());
  EXPECT_EQ(norm_one, norm_two);
  EXPECT_EQ(one.p, two.p);
  EXPECT_EQ(one.m, two.m);
  EXPECT_EQ(one.v, two.v);
}

TEST(SumOfSquares, LargeAndSmallValues_KeepsFp64Precision) {
  std::vector<float> values(200'001, 0x1p-13f);
  values[0] = 0x1p13f;
  EXPECT_EQ(SumOfSquares(values.data(), 200'001), 0x1p26 + 200'000 * 0x1p-26);
  values[100'000] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan(SumOfSquares(values.data(), 200'001)));
}

TEST(ClipScale, NormAboveLimit_ScalesToLimit) {
  EXPECT_NEAR(ClipScale(4.0, 1.0), 0.25, 1e-6);
  EXPECT_EQ(ClipScale(0.5, 1.0), 1.0);
  EXPECT_EQ(ClipScale(4.0, 0.0), 1.0) << "0 turns clipping off";
}

TEST(DecaySegments, RangeWithinLayout_CoversItOnceAndSparesNorms) {
  const model::ParameterLayout layout(TinyMoe());
  const parallel::Range range = {layout.Find("layers.0.attn_norm").offset - 64,
                                 layout.Find("layers.1.ffn_norm").offset + 64};
  const std::vector<DecaySegment> segments = DecaySegments(layout, range);
  ASSERT_FALSE(segments.empty());
  EXPECT_EQ(segments.front().range.begin, range.begin);
  EXPECT_EQ(segments.back().range.end, range.end);
  for (size_t i = 1; i < segments.size(); ++i) {
    EXPECT_EQ(segments[i].range.begin, segments[i - 1].range.end);
  }
  for (const model::Parameter& parameter : layout.parameters()) {
    for (const DecaySegment& segment : segments) {
      if (parameter.offset >= segment.range.begin && parameter.offset < segment.range.end) {
        const bool is_norm = parameter.name.find("norm") != std::string::npos;
        EXPECT_EQ(segment.decay, !is_norm) << parameter.name;
      }
    }
  }
}

}  // namespace
}  // namespace moe::training
