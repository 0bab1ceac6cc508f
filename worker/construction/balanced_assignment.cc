// n points, k clusters.
#include "worker/construction/balanced_assignment.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/check.h"

namespace moe::construction {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// Successive shortest paths. Invariant: every point is in a cluster that is cheapest for it under
// the prices, so the assignment is optimal for the sizes that the clusters have at the moment.
class Solver {
 public:
  Solver(const std::vector<float>& cost_nk, int64_t k, std::vector<double> prices)
      : cost_(cost_nk),
        n_(static_cast<int64_t>(cost_nk.size()) / k),
        k_(k),
        prices_(std::move(prices)),
        size_(k),
        heaps_(k * k) {}

  Assignment Solve() {
    StartAtCheapest();
    const int64_t capacity = n_ / k_;
    for (int64_t from = 0; from < k_; ++from) {
      while (size_[from] > capacity) MoveOneAway(from, capacity);
    }
    return {.cluster = std::move(cluster_), .prices = std::move(prices_)};
  }

 private:
  // What `point` pays for moving from cluster a to b is `extra`.
  struct Move {
    double extra;
    int32_t point;
    // For a heap with the least on top; of equals the lower point.
    bool operator<(const Move& other) const {
      return extra > other.extra || (extra == other.extra && point > other.point);
    }
  };
  using Heap = std::vector<Move>;

  double Cost(int64_t point, int64_t c) const { return cost_[point * k_ + c]; }
  Heap& HeapOf(int64_t a, int64_t b) { return heaps_[a * k_ + b]; }
  Move MoveOf(int32_t point, int64_t a, int64_t b) const {
    return {Cost(point, b) - Cost(point, a), point};
  }

  void StartAtCheapest() {
    cluster_.resize(n_);
    for (int32_t i = 0; i < n_; ++i) {
      int64_t best = 0;
      double best_cost = kInfinity;
      for (int64_t c = 0; c < k_; ++c) {
        const double cost = Cost(i, c) + prices_[c];
        if (cost < best_cost) best = c, best_cost = cost;
      }
      cluster_[i] = static_cast<int32_t>(best);
      ++size_[best];
      for (int64_t b = 0; b < k_; ++b) {
        if (b != best) HeapOf(best, b).push_back(MoveOf(i, best, b));
      }
    }
    for (Heap& heap : heaps_) std::make_heap(heap.begin(), heap.end());
  }

  // The cheapest move from a to b, or nullptr. Entries of points that have left a are dropped here.
  const Move* Cheapest(int64_t a, int64_t b) {
    Heap& heap = HeapOf(a, b);
    while (!heap.empty() && cluster_[heap.front().point] != a) {
      std::pop_heap(heap.begin(), heap.end());
      heap.pop_back();
    }
    return heap.empty() ? nullptr : &heap.front();
  }

  // Dijkstra from `from` over move costs reduced by the prices (never negative) to the nearest
  // cluster with room, then one point moves along each edge of the path.
  void MoveOneAway(int64_t from, int64_t capacity) {
    std::vector<double> distance(k_, kInfinity);
    std::vector<int64_t> previous(k_, -1);
    std::vector<bool> done(k_);
    distance[from] = 0;
    int64_t to = from;
    for (;;) {
      to = -1;
      for (int64_t c = 0; c < k_; ++c) {
        if (!done[c] && distance[c] < kInfinity && (to < 0 || distance[c] < distance[to])) to = c;
      }
      MOE_CHECK(to >= 0);  // n / k points per cluster: one has room while another is over-full
      if (size_[to] < capacity) break;
      done[to] = true;
      for (int64_t c = 0; c < k_; ++c) {
        if (done[c]) continue;
        const Move* move = Cheapest(to, c);
        if (move == nullptr) continue;
        // Rounding may leave a reduced cost a hair below zero.
        const double reduced = std::max(0.0, move->extra + prices_[c] - prices_[to]);
        if (distance[to] + reduced < distance[c]) {
          distance[c] = distance[to] + reduced;
          previous[c] = to;
        }
      }
    }
    // Clusters nearer than `to` become dearer by the difference, which keeps the invariant and
    // makes every edge of the path free.
    for (int64_t c = 0; c < k_; ++c) {
      if (distance[c] < distance[to]) prices_[c] += distance[to] - distance[c];
    }
    for (int64_t c = to; c != from; c = previous[c]) {
      Relocate(Cheapest(previous[c], c)->point, c);
    }
    --size_[from];
    ++size_[to];
  }

  void Relocate(int32_t point, int64_t to) {
    cluster_[point] = static_cast<int32_t>(to);
    for (int64_t c = 0; c < k_; ++c) {
      if (c == to) continue;
      Heap& heap = HeapOf(to, c);
      heap.push_back(MoveOf(point, to, c));
      std::push_heap(heap.begin(), heap.end());
    }
  }

  const std::vector<float>& cost_;
  const int64_t n_, k_;
  std::vector<int32_t> cluster_;
  std::vector<double> prices_;
  std::vector<int64_t> size_;
  std::vector<Heap> heaps_;  // [k, k]
};

}  // namespace

Assignment BalancedAssignment(const std::vector<float>& cost_nk, int64_t num_clusters,
                              std::vector<double> prices) {
  MOE_CHECK(num_clusters >= 1 && static_cast<int64_t>(prices.size()) == num_clusters);
  MOE_CHECK(static_cast<int64_t>(cost_nk.size()) % (num_clusters * num_clusters) == 0);
  return Solver(cost_nk, num_clusters, std::move(prices)).Solve();
}

}  // namespace moe::construction
