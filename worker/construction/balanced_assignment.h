// The cheapest assignment of points to clusters of exactly equal size: pure.
//
// A transportation problem with n points and k clusters, k small. Points start at the cluster that
// is cheapest under the clusters' prices, and as long as one is over-full a chain of single moves
// leads from it to one with room along a shortest path. The graph has k nodes: edge a -> b weighs
// what the cheapest point of a pays to move to b. A path costs O(k^2), against O(n k) arcs for a
// general min-cost-flow solver; which points are cheapest is found when an edge is asked for, the
// next few in the same pass. Where sizes come out nearly equal by themselves, as in k-means, the
// work is little more than a look at every cost.
#pragma once

#include <cstdint>
#include <vector>

namespace moe::construction {

struct Assignment {
  std::vector<int32_t> cluster;  // per point
  std::vector<double> prices;    // per cluster: point i is in argmin_c cost(i, c) + price(c)
};

// cost_nk is n x k, row-major; k divides n. Exact: no assignment with n / k points in every cluster
// has a lower sum of costs. Deterministic; of equally cheap clusters the lower wins at the start.
// Costs must be finite.
Assignment BalancedAssignment(const std::vector<float>& cost_nk, int64_t num_clusters);

}  // namespace moe::construction
