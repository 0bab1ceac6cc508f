#include "worker/kernels/gemm.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <stdexcept>
#include <vector>

#include "tests/unit/worker/kernels/numbers.h"
#include "worker/kernels/tile_gemm.h"

namespace moe::kernels {
namespace {

using testing::Random;
using testing::ToBf16;

constexpr int64_t kPadding = 3;
struct Shape {
  int64_t m, n, k;
};
// The second has more of everything than a block of tiles.
constexpr Shape kShapes[] = {{5, 7, 9}, {131, 70, 1061}};

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
void ExpectProduct(const Shape& shape, bool a_transposed, bool b_transposed, Output output,
                   double tolerance) {
  const auto [M, N, K] = shape;
  const Operand<T> a(M, K, a_transposed, 1), b(K, N, b_transposed, 2);
  const int64_t stride = N + kPadding;
  std::vector<C> c(M * stride, C(0.5f));
  Gemm(a.view, b.view, output, Matrix<C>(c.data(), M, N, stride));
  for (int64_t m = 0; m < M; ++m) {
    for (int64_t n = 0; n < stride; ++n) {
      double expected = n < N && output == Output::kOverwrite ? 0.0 : 0.5;
      double sum = std::abs(expected);
      for (int64_t k = 0; n < N && k < K; ++k) {
        expected += a.At(m, k) * b.At(k, n);
        sum += std::abs(a.At(m, k) * b.At(k, n));
      }
      ASSERT_NEAR(c[m * stride + n], expected, tolerance * std::max(1.0, sum / 9))
          << M << " x " << K << " x " << N << ": " << m << ", " << n;
    }
  }
}

TEST(Gemm, EveryOrientation_EqualsTheDefinitionAndKeepsThePadding) {
  for (const Shape& shape : kShapes) {
    for (bool a_transposed : {false, true}) {
      for (bool b_transposed : {false, true}) {
        for (Output output : {Output::kOverwrite, Output::kAdd}) {
          ExpectProduct<float, float>(shape, a_transposed, b_transposed, output, 1e-5);
          ExpectProduct<c10::BFloat16, float>(shape, a_transposed, b_transposed, output, 2e-2);
        }
        ExpectProduct<c10::BFloat16, c10::BFloat16>(shape, a_transposed, b_transposed,
                                                    Output::kOverwrite, 2e-2);
      }
    }
  }
}

// Sums of fp32 that are never rounded on their way, of as much of the right-hand side as is asked
// for, the same from any number of threads.
TEST(TileGemm, PartOfTheRightHandSide_IsSummedInFp32) {
  if (!CpuMultipliesBf16()) GTEST_SKIP() << "this CPU does not multiply bf16";
  constexpr int64_t kRows = 300, kDepth = 1500, kCols = 130, kUsedDepth = 1101, kUsedCols = 65;
  for (bool a_transposed : {false, true}) {
    const Operand<c10::BFloat16> a(kRows, kUsedDepth, a_transposed, 1), b(kDepth, kCols, false, 2);
    TileMatrix tiles;
    tiles.Pack(b.view);
    std::vector<float> c(kRows * kUsedCols), alone(c.size());
    TileGemm(a.view, tiles, Output::kOverwrite, Matrix<float>(c.data(), kRows, kUsedCols));
    for (int64_t m = 0; m < kRows; ++m) {
      for (int64_t n = 0; n < kUsedCols; ++n) {
        double expected = 0;
        for (int64_t k = 0; k < kUsedDepth; ++k) expected += a.At(m, k) * b.At(k, n);
        ASSERT_NEAR(c[m * kUsedCols + n], expected, 2e-3) << m << ", " << n;
      }
    }
    const int threads = at::get_num_threads();
    at::set_num_threads(1);
    TileGemm(a.view, tiles, Output::kOverwrite, Matrix<float>(alone.data(), kRows, kUsedCols));
    at::set_num_threads(threads);
    EXPECT_EQ(c, alone);
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
