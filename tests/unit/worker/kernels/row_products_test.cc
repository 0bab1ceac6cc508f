#include "worker/kernels/row_products.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <vector>

#include "tests/unit/worker/kernels/numbers.h"

namespace moe::kernels {
namespace {

using testing::Random;

double ExactProduct(const float* a, const float* b, int64_t d) {
  double sum = 0;
  for (int64_t j = 0; j < d; ++j) sum += double{a[j]} * b[j];
  return sum;
}

TEST(RowProducts, ShapesThatNoTileDivides_EqualTheirDefinition) {
  for (const int64_t n : {1, 2, 5, 700}) {
    for (const int64_t m : {1, 3, 8, 9, 16, 21, 40}) {
      for (const int64_t d : {1, 7, 128, 300}) {
        const std::vector<float> rows = Random(n * d, 1), vectors = Random(m * d, 2);
        std::vector<float> products(n * m, -1.0f);
        RowProducts(rows.data(), n, vectors.data(), m, d, products.data());
        for (int64_t i = 0; i < n; ++i) {
          for (int64_t c = 0; c < m; ++c) {
            ASSERT_NEAR(products[i * m + c], ExactProduct(&rows[i * d], &vectors[c * d], d), 2e-5)
                << n << " x " << m << " x " << d << " at " << i << ", " << c;
          }
        }
      }
    }
  }
}

TEST(RowProducts, RowAlone_HasTheBitsThatItHasAmongOthers) {
  constexpr int64_t n = 523, m = 6, d = 77;
  const std::vector<float> rows = Random(n * d, 3), vectors = Random(m * d, 4);
  std::vector<float> all(n * m), threaded(n * m);
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  RowProducts(rows.data(), n, vectors.data(), m, d, all.data());
  at::set_num_threads(3);
  RowProducts(rows.data(), n, vectors.data(), m, d, threaded.data());
  at::set_num_threads(threads);
  EXPECT_EQ(all, threaded);
  for (const int64_t i : {0, 1, 257, 522}) {
    for (int64_t c = 0; c < m; ++c) {
      float alone = 0;
      RowProducts(&rows[i * d], 1, &vectors[c * d], 1, d, &alone);
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

  std::vector<double> sum(d, 1.0);
  AddRow(row.data(), d, 1, sum.data());
  EXPECT_DOUBLE_EQ(sum[0], 65.0);
  EXPECT_DOUBLE_EQ(sum[1], 1.0 + double{1e-5f});
  AddRow(row.data(), d, -1, sum.data());
  EXPECT_EQ(sum, std::vector<double>(d, 1.0));
  EXPECT_DOUBLE_EQ(SquaredLength(sum.data(), d), 1001.0);
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
