// n points, k clusters.
#include "worker/construction/balanced_assignment.h"

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

#include "common/check.h"

namespace moe::construction {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// What `point` pays for moving from its cluster to another one is `extra`; of equals the lower
// point comes first.
struct Move {
  double extra;
  int32_t point;
  bool operator<(const Move& other) const {
    return extra < other.extra || (extra == other.extra && point < other.point);
  }
};

// The cheapest moves from one cluster to another, the first few, cheapest first. Every point of the
// cluster that is not here has a move that is not below `bound`. Some may have left the cluster.
class Shortlist {
 public:
  bool empty() const { return first_ == end_; }
  const Move& front() const { return moves_[first_]; }
  void pop_front() { ++first_; }
  // Whether points that are not here may be in the cluster.
  bool is_incomplete() const { return bound_.extra < kInfinity; }

  void Clear() {
    first_ = end_ = 0;
    bound_ = {kInfinity, 0};
  }
  void Add(const Move& move) {
    if (!(move < bound_)) return;
    if (first_ > 0) {
      std::copy(moves_.begin() + first_, moves_.begin() + end_, moves_.begin());
      end_ -= first_;
      first_ = 0;
    }
    if (end_ == kMoves) {
      bound_ = std::max(move, moves_[end_ - 1]);
      if (!(move < moves_[end_ - 1])) return;
      --end_;
    }
    int at = end_++;
    for (; at > 0 && move < moves_[at - 1]; --at) moves_[at] = moves_[at - 1];
    moves_[at] = move;
  }

 private:
  static constexpr int kMoves = 4;

  std::array<Move, kMoves> moves_;
  int first_ = 0, end_ = 0;
  Move bound_ = {-kInfinity, 0};  // nothing is known yet
};

// Successive shortest paths. Invariant: every point is in a cluster that is cheapest for it under
// the prices, so the assignment is optimal for the sizes that the clusters have at the moment.
class Solver {
 public:
  Solver(const std::vector<float>& cost_nk, int64_t k)
      : cost_(cost_nk),
        n_(static_cast<int64_t>(cost_nk.size()) / k),
        k_(k),
        prices_(k),
        members_(k),
        shortlists_(k * k),
        distance_(k),
        previous_(k),
        done_(k) {}

  Assignment Solve() {
    StartAtCheapest();
    for (int64_t from = 0; from < k_; ++from) {
      while (Size(from) > n_ / k_) MoveOneAway(from);
    }
    return {.cluster = std::move(cluster_), .prices = std::move(prices_)};
  }

 private:
  int64_t Size(int64_t c) const { return std::ssize(members_[c]); }
  Move MoveOf(int32_t point, int64_t a, int64_t b) const {
    const float* cost = cost_.data() + point * k_;
    return {double{cost[b]} - cost[a], point};
  }

  void StartAtCheapest() {
    cluster_.resize(n_);
    place_.resize(n_);
    for (std::vector<int32_t>& members : members_) members.reserve(2 * n_ / k_);
    for (int32_t i = 0; i < n_; ++i) {
      const float* cost = cost_.data() + i * k_;
      Enter(i, std::min_element(cost, cost + k_) - cost);
    }
  }

  void Enter(int32_t point, int64_t c) {
    cluster_[point] = static_cast<int32_t>(c);
    place_[point] = static_cast<int32_t>(Size(c));
    members_[c].push_back(point);
  }

  void Leave(int32_t point) {
    std::vector<int32_t>& members = members_[cluster_[point]];
    place_[members.back()] = place_[point];
    members[place_[point]] = members.back();
    members.pop_back();
  }

  void Relocate(int32_t point, int64_t to) {
    Leave(point);
    Enter(point, to);
    for (int64_t c = 0; c < k_; ++c) {
      if (c != to) shortlists_[to * k_ + c].Add(MoveOf(point, to, c));
    }
  }

  // The cheapest move from a to b, or nullptr.
  const Move* Cheapest(int64_t a, int64_t b) {
    Shortlist& list = shortlists_[a * k_ + b];
    while (!list.empty() && cluster_[list.front().point] != a) list.pop_front();
    if (list.empty() && list.is_incomplete()) {
      list.Clear();
      for (const int32_t point : members_[a]) list.Add(MoveOf(point, a, b));
    }
    return list.empty() ? nullptr : &list.front();
  }

  // Dijkstra from `from` over move costs reduced by the prices (never negative) to the nearest
  // cluster with room, then one point moves along each edge of the path.
  void MoveOneAway(int64_t from) {
    std::fill(distance_.begin(), distance_.end(), kInfinity);
    std::fill(done_.begin(), done_.end(), false);
    distance_[from] = 0;
    int64_t to = from;
    for (;;) {
      to = -1;
      for (int64_t c = 0; c < k_; ++c) {
        if (!done_[c] && distance_[c] < kInfinity && (to < 0 || distance_[c] < distance_[to])) {
          to = c;
        }
      }
      MOE_CHECK(to >= 0);  // n / k points per cluster: one has room while another is over-full
      if (Size(to) < n_ / k_) break;
      done_[to] = true;
      for (int64_t c = 0; c < k_; ++c) {
        if (done_[c]) continue;
        const Move* move = Cheapest(to, c);
        if (move == nullptr) continue;
        // Rounding may leave a reduced cost a hair below zero.
        const double reduced = std::max(0.0, move->extra + prices_[c] - prices_[to]);
        if (distance_[to] + reduced < distance_[c]) {
          distance_[c] = distance_[to] + reduced;
          previous_[c] = to;
        }
      }
    }
    // Clusters nearer than `to` become dearer by the difference, which keeps the invariant and
    // makes every edge of the path free.
    for (int64_t c = 0; c < k_; ++c) {
      if (distance_[c] < distance_[to]) prices_[c] += distance_[to] - distance_[c];
    }
    for (int64_t c = to; c != from; c = previous_[c]) {
      Relocate(Cheapest(previous_[c], c)->point, c);
    }
  }

  const std::vector<float>& cost_;
  const int64_t n_, k_;
  std::vector<int32_t> cluster_;
  std::vector<double> prices_;
  std::vector<std::vector<int32_t>> members_;  // [k]
  std::vector<int32_t> place_;                 // [n], within its cluster's members
  std::vector<Shortlist> shortlists_;          // [k, k]
  // Of one path, [k].
  std::vector<double> distance_;
  std::vector<int64_t> previous_;
  std::vector<bool> done_;
};

}  // namespace

Assignment BalancedAssignment(const std::vector<float>& cost_nk, int64_t num_clusters) {
  MOE_CHECK(num_clusters >= 1);
  MOE_CHECK(static_cast<int64_t>(cost_nk.size()) % (num_clusters * num_clusters) == 0);
  return Solver(cost_nk, num_clusters).Solve();
}

}  // namespace moe::construction
