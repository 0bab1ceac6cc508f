// The per-element code of the CUDA kernel, compiled for the CPU.
#include <gtest/gtest.h>

#include <cmath>

#include "common/philox.h"
#include "worker/cuda/swiglu_math.h"

namespace moe::cuda {
namespace {

double SwigluInDouble(double gate, double up) { return gate / (1.0 + std::exp(-gate)) * up; }

TEST(SwigluMath, Forward_MatchesDoublePrecision) {
  PhiloxGenerator random(7, RandomStream::kTest, 0);
  for (int i = 0; i < 10'000; ++i) {
    const float gate =
        static_cast<float>(UniformDouble(random.Next32(), random.Next32()) * 40 - 20);
    const float up = static_cast<float>(UniformDouble(random.Next32(), random.Next32()) * 8 - 4);
    const double expected = SwigluInDouble(gate, up);
    EXPECT_NEAR(Swiglu(gate, up), expected, 1e-5 * (1e-3 + std::abs(expected)))
        << gate << " " << up;
  }
}

TEST(SwigluMath, Forward_ExtremeGates_StayFinite) {
  EXPECT_EQ(Swiglu(-200.0f, 3.0f), 0.0f);
  EXPECT_FLOAT_EQ(Swiglu(200.0f, 3.0f), 600.0f);
}

TEST(SwigluMath, Backward_MatchesFiniteDifferences) {
  PhiloxGenerator random(8, RandomStream::kTest, 0);
  constexpr double kStep = 1e-5;
  for (int i = 0; i < 10'000; ++i) {
    const float gate =
        static_cast<float>(UniformDouble(random.Next32(), random.Next32()) * 20 - 10);
    const float up = static_cast<float>(UniformDouble(random.Next32(), random.Next32()) * 8 - 4);
    const float d_h = static_cast<float>(UniformDouble(random.Next32(), random.Next32()) * 2 - 1);
    const SwigluGradient gradient = SwigluBackward(gate, up, d_h);
    const double d_gate =
        d_h * (SwigluInDouble(gate + kStep, up) - SwigluInDouble(gate - kStep, up)) / (2 * kStep);
    const double d_up =
        d_h * (SwigluInDouble(gate, up + kStep) - SwigluInDouble(gate, up - kStep)) / (2 * kStep);
    EXPECT_NEAR(gradient.gate, d_gate, 1e-5 * (1 + std::abs(d_gate)));
    EXPECT_NEAR(gradient.up, d_up, 1e-5 * (1 + std::abs(d_up)));
  }
}

}  // namespace
}  // namespace moe::cuda
