#include "worker/kernels/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <stdexcept>
#include <vector>

#include "tests/unit/worker/kernels/numbers.h"

namespace moe::kernels {
namespace {

using testing::Random;
using testing::ToBf16;

constexpr int64_t kM = 5, kN = 7, kK = 9, kPadding = 3;

// A matrix with padded rows, stored plain or transposed, and its elements by logical index.
template <typename T>
struct Operand {
  std::vector<T> storage;
  Matrix<const T> view;

  Operand(int64_t rows, int64_t cols, bool is_transposed, uint32_t substream)
      : storage(Values((is_transposed ? cols : rows) * ((is_transposed ? rows : cols) + kPadding),
                       substream)),
        view(is_transposed
                 ? Matrix<const T>(storage.data(), cols, rows, rows + kPadding).Transposed()
                 : Matrix<const T>(storage.data(), rows, cols, cols + kPadding)) {}

  static std::vector<T> Values(int64_t count, uint32_t substream) {
    const std::vector<float> values = Random(count, substream);
    return std::vector<T>(values.begin(), values.end());
  }
  double At(int64_t r, int64_t c) const {
    return view.is_transposed ? storage[c * view.stride + r] : storage[r * view.stride + c];
  }
};

template <typename T, typename C>
void ExpectProduct(bool a_transposed, bool b_transposed, Output output, double tolerance) {
  const Operand<T> a(kM, kK, a_transposed, 1), b(kK, kN, b_transposed, 2);
  constexpr int64_t kStride = kN + kPadding;
  std::vector<C> c(kM * kStride, C(0.5f));
  Gemm(a.view, b.view, output, Matrix<C>(c.data(), kM, kN, kStride));
  for (int64_t m = 0; m < kM; ++m) {
    for (int64_t n = 0; n < kStride; ++n) {
      double expected = n < kN && output == Output::kOverwrite ? 0.0 : 0.5;
      for (int64_t k = 0; n < kN && k < kK; ++k) expected += a.At(m, k) * b.At(k, n);
      ASSERT_NEAR(c[m * kStride + n], expected, tolerance) << m << ", " << n;
    }
  }
}

TEST(Gemm, EveryOrientation_EqualsTheDefinitionAndKeepsThePadding) {
  for (bool a_transposed : {false, true}) {
    for (bool b_transposed : {false, true}) {
      for (Output output : {Output::kOverwrite, Output::kAdd}) {
        ExpectProduct<float, float>(a_transposed, b_transposed, output, 1e-5);
        ExpectProduct<c10::BFloat16, float>(a_transposed, b_transposed, output, 2e-2);
      }
      ExpectProduct<c10::BFloat16, c10::BFloat16>(a_transposed, b_transposed, Output::kOverwrite,
                                                  2e-2);
    }
  }
}

TEST(Gemm, ShapesThatDoNotFit_Throw) {
  std::vector<float> x(100);
  EXPECT_THROW(Gemm(Matrix<const float>(x.data(), 3, 4), Matrix<const float>(x.data(), 5, 2),
                    Output::kOverwrite, Matrix<float>(x.data(), 3, 2)),
               std::invalid_argument);
}

TEST(Gemm, NoRows_LeavesTheResultAlone) {
  std::vector<float> x(100, 1.0f), c(10, 7.0f);
  Gemm(Matrix<const float>(x.data(), 0, 4), Matrix<const float>(x.data(), 4, 2), Output::kOverwrite,
       Matrix<float>(c.data(), 0, 2));
  EXPECT_EQ(c, std::vector<float>(10, 7.0f));
}

}  // namespace
}  // namespace moe::kernels
