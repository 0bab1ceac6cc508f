#include "worker/kernels/row_products.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/worker/kernels/numbers.h"

namespace moe::kernels {
namespace {

using testing::Random;
using testing::ToBf16;
using testing::ToFp32;

double ExactProduct(const float* a, const float* b, int64_t d) {
  double sum = 0;
  for (int64_t j = 0; j < d; ++j) sum += double{a[j]} * b[j];
  return sum;
}

RoundedRows Rounded(const float* rows, int64_t n, int64_t d, const std::vector<float>& offset) {
  RoundedRows rounded(n, d);
  for (int64_t i = 0; i < n; ++i) rounded.Set(i, rows + i * d, offset.data());
  return rounded;
}

// With `widens`, and as this CPU does by itself.
class RoundedRowsForms : public ::testing::TestWithParam<bool> {
 protected:
  static bool Widens() { return GetParam() || !CpuMultipliesBf16(); }
};
INSTANTIATE_TEST_SUITE_P(, RoundedRowsForms, ::testing::Bool());

TEST_P(RoundedRowsForms, ShapesThatNoTileDivides_HaveTheProductsOfNumbersInBf16) {
  for (const int64_t n : {1, 2, 5, 12, 700}) {
    for (const int64_t m : {1, 3, 8, 9, 16, 21, 40}) {
      for (const int64_t d : {1, 7, 16, 128, 300, 1024}) {
        const std::vector<float> rows = Random(n * d, 1), vectors = Random(m * d, 2);
        const std::vector<float> bf16 = ToFp32(ToBf16(rows)), of_vectors = ToFp32(ToBf16(vectors));
        std::vector<float> products(n * m, -1.0f);
        Rounded(rows.data(), n, d, std::vector<float>(d))
            .Products(vectors.data(), m, products.data(), Widens());
        for (int64_t i = 0; i < n; ++i) {
          for (int64_t c = 0; c < m; ++c) {
            ASSERT_NEAR(products[i * m + c], ExactProduct(&bf16[i * d], &of_vectors[c * d], d),
                        2e-5)
                << n << " x " << m << " x " << d << " at " << i << ", " << c;
          }
        }
      }
    }
  }
}

// Beside 1000, bf16 has steps of 4.
TEST(RoundedRows, OffsetIsTakenOffBeforeRounding) {
  constexpr int64_t n = 4, d = 33;
  std::vector<float> rows = Random(n * d, 5);
  const std::vector<float> small = rows;
  for (float& value : rows) value += 1000;
  const std::vector<float> ones(d, 1.0f);
  std::vector<float> products(n);
  Rounded(rows.data(), n, d, std::vector<float>(d, 1000.0f))
      .Products(ones.data(), 1, products.data());
  for (int64_t i = 0; i < n; ++i) {
    EXPECT_NEAR(products[i], ExactProduct(&small[i * d], ones.data(), d), 0.05) << i;
  }
}

TEST_P(RoundedRowsForms, RowAlone_HasTheBitsThatItHasAmongOthers) {
  constexpr int64_t n = 523, m = 6, d = 77;
  const std::vector<float> rows = Random(n * d, 3), vectors = Random(m * d, 4);
  const std::vector<float> offset = Random(d, 6);
  const RoundedRows rounded = Rounded(rows.data(), n, d, offset);
  std::vector<float> all(n * m), threaded(n * m);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  rounded.Products(vectors.data(), m, all.data(), Widens());
  at::set_num_threads(3);
  rounded.Products(vectors.data(), m, threaded.data(), Widens());
  at::set_num_threads(threads);
  EXPECT_EQ(all, threaded);
  for (const int64_t i : {0, 1, 257, 522}) {
    for (int64_t c = 0; c < m; ++c) {
      float alone = 0;
      Rounded(&rows[i * d], 1, d, offset).Products(&vectors[c * d], 1, &alone, Widens());
      EXPECT_EQ(alone, all[i * m + c]) << i << ", " << c;
    }
  }
}

TEST(RowSums, ManyColumns_AreAddedInDoublePrecision) {
  constexpr int64_t d = 1001;
  std::vector<float> row(d, 1e-5f), other(d, 1e-5f);
  row[0] = other[0] = 64.0f;  // fp32 would lose every square that is added to this one's
  other[1000] = 3.0f;
  EXPECT_NEAR(SquaredLength(row.data(), d) - 4096.0, 1e-7, 1e-9);
  EXPECT_NEAR(SquaredDistance(row.data(), other.data(), d), (3.0 - 1e-5) * (3.0 - 1e-5), 1e-6);

  EXPECT_DOUBLE_EQ(SquaredLength(std::vector<double>(d, 2.0).data(), d), 4004.0);
}

TEST(RowSums, RowsAreAddedInDoublePrecision) {
  constexpr int64_t d = 1001;
  for (const int64_t count : {0, 1, 4, 6}) {
    const std::vector<float> rows = Random(count * d, 7);
    std::vector<const float*> pointers;
    for (int64_t i = 0; i < count; ++i) pointers.push_back(&rows[i * d]);
    std::vector<double> sum(d, 1e9);  // in fp32 nothing that is added would be left
    AddToSum(pointers.data(), count, d, 1, sum.data());
    for (int64_t j = 0; j < d; ++j) {
      double expected = 0;
      for (int64_t i = 0; i < count; ++i) expected += rows[i * d + j];
      ASSERT_NEAR(sum[j] - 1e9, expected, 1e-6) << count << ", " << j;
    }
    AddToSum(pointers.data(), count, d, -1, sum.data());
    for (int64_t j = 0; j < d; ++j) ASSERT_NEAR(sum[j], 1e9, 1e-6) << count << ", " << j;
  }
}

TEST(RowSums, SubtractRow_LeavesTheRestAndItsSquaredLength) {
  constexpr int64_t d = 37;
  std::vector<float> row(d, 3.0f), step(d, 0.5f);
  row[36] = 1.0f;
  EXPECT_FLOAT_EQ(SubtractRow(step.data(), d, 2.0f, row.data()), 36 * 4.0f);
  EXPECT_EQ(row[0], 2.0f);
  EXPECT_EQ(row[36], 0.0f);
}

}  // namespace
}  // namespace moe::kernels
