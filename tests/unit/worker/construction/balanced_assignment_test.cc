#include "worker/construction/balanced_assignment.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "common/philox.h"

namespace moe::construction {
namespace {

std::vector<float> RandomCosts(int64_t n, int64_t k, uint32_t stream, uint64_t distinct) {
  PhiloxGenerator generator(11, RandomStream::kTest, stream);
  std::vector<float> costs(n * k);
  for (float& cost : costs) cost = static_cast<float>(generator.Below(distinct)) - 5.0f;
  return costs;
}

double Sum(const std::vector<float>& costs, int64_t k, const std::vector<int32_t>& cluster) {
  double sum = 0;
  for (size_t i = 0; i < cluster.size(); ++i) sum += costs[i * k + cluster[i]];
  return sum;
}

// Every way to deal the points, with bounds.
double LeastByEnumeration(const std::vector<float>& costs, int64_t n, int64_t k, int64_t point,
                          std::vector<int64_t>& room) {
  if (point == n) return 0;
  double least = std::numeric_limits<double>::infinity();
  for (int64_t c = 0; c < k; ++c) {
    if (room[c] == 0) continue;
    --room[c];
    least =
        std::min(least, costs[point * k + c] + LeastByEnumeration(costs, n, k, point + 1, room));
    ++room[c];
  }
  return least;
}

void ExpectBalanced(const Assignment& assignment, int64_t n, int64_t k) {
  std::vector<int64_t> sizes(k);
  for (const int32_t c : assignment.cluster) ++sizes[c];
  for (const int64_t size : sizes) EXPECT_EQ(size, n / k);
}

TEST(BalancedAssignmentTest, SmallProblems_AreSolvedAsByEnumeration) {
  uint32_t stream = 0;
  for (const auto& [n, k] : {std::pair<int64_t, int64_t>{8, 2}, {9, 3}, {8, 4}, {5, 5}, {4, 1}}) {
    for (const uint64_t distinct : {2, 5, 1000}) {
      for (int repeat = 0; repeat < 20; ++repeat) {
        const std::vector<float> costs = RandomCosts(n, k, ++stream, distinct);
        std::vector<int64_t> room(k, n / k);
        const double least = LeastByEnumeration(costs, n, k, 0, room);
        const Assignment assignment = BalancedAssignment(costs, k);
        ExpectBalanced(assignment, n, k);
        EXPECT_DOUBLE_EQ(Sum(costs, k, assignment.cluster), least) << n << " " << k;
      }
    }
  }
}

// Complementary slackness: with equal sizes, prices under which every point is in a cluster that is
// cheapest for it prove that no assignment is better.
TEST(BalancedAssignmentTest, LargeProblem_PricesProveThatItIsOptimal) {
  constexpr int64_t n = 4096, k = 16;
  std::vector<float> costs(n * k);
  PhiloxGenerator generator(3, RandomStream::kTest, 0);
  // Cluster 0 is the best for nearly all, so that most points must move.
  for (int64_t i = 0; i < n * k; ++i) {
    costs[i] = static_cast<float>(UniformDouble(generator.Next32(), generator.Next32())) +
               0.3f * static_cast<float>(i % k);
  }
  const Assignment assignment = BalancedAssignment(costs, k);
  ExpectBalanced(assignment, n, k);
  for (int64_t i = 0; i < n; ++i) {
    const int32_t own = assignment.cluster[i];
    for (int64_t c = 0; c < k; ++c) {
      EXPECT_LE(costs[i * k + own] + assignment.prices[own],
                costs[i * k + c] + assignment.prices[c] + 1e-6);
    }
  }
}

TEST(BalancedAssignmentTest, AllCostsEqual_IsBalanced) {
  ExpectBalanced(BalancedAssignment(std::vector<float>(64 * 4, 1.0f), 4), 64, 4);
}

}  // namespace
}  // namespace moe::construction
