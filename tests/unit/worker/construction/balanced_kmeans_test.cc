#include "worker/construction/balanced_kmeans.h"

#include <ATen/Parallel.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/philox.h"
#include "worker/construction/balanced_assignment.h"

namespace moe::construction {
namespace {

std::vector<float> RandomRows(int64_t n, int64_t d) {
  std::vector<float> rows(n * d);
  for (int64_t i = 0; i < n * d; ++i) {
    rows[i] = Normal4(Philox(5, RandomStream::kTest, 0, i))[0];
  }
  return rows;
}

// Row i is near direction i mod k.
std::vector<float> RowsAroundAxes(int64_t n, int64_t d, int64_t k) {
  std::vector<float> rows = RandomRows(n, d);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < d; ++j) rows[i * d + j] = 0.05f * rows[i * d + j] + (j == i % k);
  }
  return rows;
}

double SquaredDistances(const std::vector<float>& rows, int64_t d, const Clustering& clustering) {
  double sum = 0;
  for (size_t i = 0; i < clustering.cluster.size(); ++i) {
    for (int64_t j = 0; j < d; ++j) {
      const double difference =
          rows[i * d + j] - clustering.centres_k_d[clustering.cluster[i] * d + j];
      sum += difference * difference;
    }
  }
  return sum;
}

class BalancedKMeansTest : public ::testing::TestWithParam<Metric> {};

TEST_P(BalancedKMeansTest, RowsAroundAxes_AreFoundApart) {
  constexpr int64_t n = 96, d = 20, k = 8;
  const Clustering clustering = BalancedKMeans(RowsAroundAxes(n, d, k), d, k,
                                               {.metric = GetParam(), .restarts = 3, .seed = 1});
  for (int64_t i = 0; i < n; ++i) {
    EXPECT_EQ(clustering.cluster[i], clustering.cluster[i % k]) << i;
    EXPECT_EQ(clustering.cluster[i] == clustering.cluster[0], i % k == 0) << i;
  }
}

TEST_P(BalancedKMeansTest, Clusters_AreOfEqualSize) {
  constexpr int64_t n = 600, d = 7, k = 12;
  const Clustering clustering =
      BalancedKMeans(RandomRows(n, d), d, k, {.metric = GetParam(), .restarts = 1});
  std::vector<int64_t> sizes(k);
  for (const int64_t c : clustering.cluster) ++sizes[c];
  EXPECT_EQ(sizes, std::vector<int64_t>(k, n / k));
}

TEST_P(BalancedKMeansTest, AnyNumberOfThreads_GivesTheSameBits) {
  constexpr int64_t n = 1536, d = 576, k = 16;
  std::vector<float> rows = RandomRows(n, d);
  NormaliseRows(rows.data(), n, d);
  const KMeansOptions options{
      .metric = GetParam(), .restarts = 1, .max_iterations = 4, .seed = 1227, .stream = 3};
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Clustering one = BalancedKMeans(rows, d, k, options);
  at::set_num_threads(3);
  const Clustering three = BalancedKMeans(rows, d, k, options);
  at::set_num_threads(threads);
  EXPECT_EQ(one.cluster, three.cluster);
  EXPECT_EQ(one.centres_k_d, three.centres_k_d);
  EXPECT_EQ(one.objective, three.objective);
}

INSTANTIATE_TEST_SUITE_P(Metrics, BalancedKMeansTest,
                         ::testing::Values(Metric::kL2, Metric::kCosine), [](const auto& info) {
                           return info.param == Metric::kL2 ? "L2" : "Cosine";
                         });

TEST(BalancedKMeansL2Test, MoreIterations_NeverRaiseTheObjective) {
  constexpr int64_t n = 384, d = 24, k = 8;
  const std::vector<float> rows = RandomRows(n, d);
  const std::vector<float> centres(rows.begin(), rows.begin() + k * d);
  double before = std::numeric_limits<double>::infinity();
  for (int64_t iterations = 1; iterations <= 12; ++iterations) {
    const Clustering clustering =
        BalancedKMeansFrom(rows, d, centres, {.max_iterations = iterations, .tolerance = 0});
    EXPECT_LE(clustering.objective, before);
    before = clustering.objective;
  }
}

// A thousand times what tells the rows apart, and more than bf16 can hold beside it.
TEST(BalancedKMeansL2Test, RowsWithALargeOffset_AreFoundApart) {
  constexpr int64_t n = 96, d = 20, k = 8;
  std::vector<float> rows = RowsAroundAxes(n, d, k);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < d; ++j) rows[i * d + j] += j % 2 == 0 ? 1000.0f : -300.0f;
  }
  const Clustering clustering = BalancedKMeans(rows, d, k, {.restarts = 3, .seed = 1});
  for (int64_t i = 0; i < n; ++i) {
    EXPECT_EQ(clustering.cluster[i], clustering.cluster[i % k]) << i;
    EXPECT_EQ(clustering.cluster[i] == clustering.cluster[0], i % k == 0) << i;
  }
}

// One plain Lloyd step from `centres`: fills in `step` and returns its objective.
double AfterPlainStep(const std::vector<float>& rows, int64_t d, int64_t k,
                      const std::vector<float>& centres, Clustering& step) {
  const int64_t n = std::ssize(rows) / d;
  std::vector<float> costs(n * k);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t c = 0; c < k; ++c) {
      double cost = 0;
      for (int64_t j = 0; j < d; ++j) {
        const double difference = double{rows[i * d + j]} - centres[c * d + j];
        cost += difference * difference;
      }
      costs[i * k + c] = static_cast<float>(cost);
    }
  }
  const Assignment assignment = BalancedAssignment(costs, k);
  step.cluster = {assignment.cluster.begin(), assignment.cluster.end()};
  step.centres_k_d.assign(k * d, 0.0f);
  for (int64_t i = 0; i < n; ++i) {
    for (int64_t j = 0; j < d; ++j) {
      step.centres_k_d[step.cluster[i] * d + j] +=
          rows[i * d + j] * static_cast<float>(k) / static_cast<float>(n);
    }
  }
  return SquaredDistances(rows, d, step);
}

TEST(BalancedKMeansL2Test, Objective_IsThatOfTheMeans) {
  constexpr int64_t n = 600, d = 30, k = 6;
  const std::vector<float> rows = RandomRows(n, d);
  const Clustering clustering = BalancedKMeans(rows, d, k, {.restarts = 1});
  EXPECT_NEAR(clustering.objective, SquaredDistances(rows, d, clustering),
              1e-6 * clustering.objective);
}

// Rows that are compared with their own cluster as if they were not in it are not held back there.
TEST(BalancedKMeansL2Test, EqualIterations_ReachALowerObjectiveThanPlainSteps) {
  constexpr int64_t n = 768, d = 96, k = 16, iterations = 10;
  const std::vector<float> rows = RandomRows(n, d);
  std::vector<float> centres(rows.begin(), rows.begin() + k * d);
  const Clustering ours =
      BalancedKMeansFrom(rows, d, centres, {.max_iterations = iterations, .tolerance = 0});
  double plain = 0;
  for (int64_t i = 0; i < iterations + 1; ++i) {
    Clustering step;
    plain = AfterPlainStep(rows, d, k, centres, step);
    centres = step.centres_k_d;
  }
  EXPECT_LT(ours.objective, 0.995 * plain);
}

TEST(BalancedKMeansL2Test, Converged_NoPlainStepImprovesIt) {
  constexpr int64_t n = 384, d = 24, k = 8;
  const std::vector<float> rows = RandomRows(n, d);
  const Clustering clustering = BalancedKMeans(rows, d, k, {.restarts = 1, .tolerance = 0});
  EXPECT_LT(clustering.iterations, 500);
  Clustering step;
  EXPECT_GE(AfterPlainStep(rows, d, k, clustering.centres_k_d, step),
            clustering.objective * (1 - 1e-6));
}

TEST(BalancedKMeansL2Test, Restarts_KeepTheBest) {
  constexpr int64_t n = 96, d = 5, k = 8;
  const std::vector<float> rows = RandomRows(n, d);
  const Clustering one = BalancedKMeans(rows, d, k, {.restarts = 1, .seed = 9});
  const Clustering ten = BalancedKMeans(rows, d, k, {.restarts = 10, .seed = 9});
  EXPECT_LT(ten.objective, one.objective);
}

TEST(NormaliseRowsTest, RowsGetLengthOne_ZerosStay) {
  std::vector<float> rows = {3, 4, 0, 0};
  NormaliseRows(rows.data(), 2, 2);
  EXPECT_FLOAT_EQ(rows[0], 0.6f);
  EXPECT_FLOAT_EQ(rows[1], 0.8f);
  EXPECT_EQ(rows[2], 0.0f);
}

}  // namespace
}  // namespace moe::construction
