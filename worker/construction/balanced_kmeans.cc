// n rows, d columns, k clusters.
#include "worker/construction/balanced_kmeans.h"

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <numeric>
#include <utility>

#include "common/check.h"
#include "common/philox.h"
#include "worker/construction/balanced_assignment.h"
#include "worker/kernels/parallel.h"
#include "worker/kernels/row_products.h"

namespace moe::construction {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
// Work is cut into pieces of fixed size, each done by one thread, so that sums do not depend on the
// number of threads.
constexpr int64_t kBlockRows = 256;
constexpr int64_t kBlockColumns = 512;

// body(first, columns) for every block of columns.
void ForBlocksOfColumns(int64_t d, const std::function<void(int64_t, int64_t)>& body) {
  kernels::ParallelTasks((d + kBlockColumns - 1) / kBlockColumns, [&](int64_t, int64_t block) {
    const int64_t first = block * kBlockColumns;
    body(first, std::min(kBlockColumns, d - first));
  });
}

std::vector<double> SquaredLengths(const float* rows_nd, int64_t n, int64_t d) {
  std::vector<double> lengths(n);
  kernels::ParallelFor(n, kBlockRows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) lengths[i] = kernels::SquaredLength(rows_nd + i * d, d);
  });
  return lengths;
}

double Sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

std::vector<double> ColumnMeans(const float* rows_nd, int64_t n, int64_t d) {
  std::vector<double> means_d(d);
  ForBlocksOfColumns(d, [&](int64_t first, int64_t columns) {
    double* sums = means_d.data() + first;
    for (int64_t i = 0; i < n; ++i) kernels::AddRow(rows_nd + i * d + first, columns, 1, sums);
    for (int64_t j = 0; j < columns; ++j) sums[j] /= static_cast<double>(n);
  });
  return means_d;
}

// The rows as the metric sees them, and their squared lengths.
struct Points {
  const float* rows;           // [n, d]: the caller's, or `centred`
  std::vector<float> centred;  // kCosine: rows less their mean
  std::vector<double> squared_length;
  int64_t n, d;
};

Points Prepare(const std::vector<float>& rows_nd, int64_t d, Metric metric) {
  const int64_t n = static_cast<int64_t>(rows_nd.size()) / d;
  Points points{.rows = rows_nd.data(), .centred = {}, .squared_length = {}, .n = n, .d = d};
  if (metric == Metric::kCosine) {
    const std::vector<double> means_d = ColumnMeans(points.rows, n, d);
    points.centred = rows_nd;
    points.rows = points.centred.data();
    kernels::ParallelFor(n, kBlockRows, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        for (int64_t j = 0; j < d; ++j) points.centred[i * d + j] -= static_cast<float>(means_d[j]);
      }
    });
  }
  points.squared_length = SquaredLengths(points.rows, n, d);
  return points;
}

// The means of clusters of equal size. Sums are kept in fp64, so that a change of the assignment
// costs as much as the rows that it moves.
class ClusterMeans {
 public:
  ClusterMeans(const Points& points, int64_t k)
      : points_(points), k_(k), sums_kd_(k * points.d), means_kd_(k * points.d) {}

  const std::vector<float>& means_kd() const { return means_kd_; }
  // Of every row to the mean of its cluster, added up.
  double SquaredDistances() const {
    const int64_t rows_each = points_.n / k_;
    return Sum(points_.squared_length) - squares_of_sums_ / static_cast<double>(rows_each);
  }
  // E|x|^2 - |E x|^2, spread over the columns.
  double MeanColumnVariance() const {
    const double n = static_cast<double>(points_.n), d = static_cast<double>(points_.d);
    std::vector<double> sum_d(points_.d);
    for (int64_t c = 0; c < k_; ++c) {
      for (int64_t j = 0; j < points_.d; ++j) sum_d[j] += sums_kd_[c * points_.d + j];
    }
    const double square = kernels::SquaredLength(sum_d.data(), points_.d) / (n * n);
    return std::max(0.0, Sum(points_.squared_length) / n - square) / d;
  }

  void Update(const std::vector<int32_t>& cluster) {
    std::vector<Move> moves = MovesTo(cluster);
    // A row that moves is added twice; all of them are added once.
    const bool afresh = std::ssize(moves) > points_.n / 2;
    if (afresh) {
      cluster_.clear();
      moves = MovesTo(cluster);
      std::fill(sums_kd_.begin(), sums_kd_.end(), 0.0);
    }
    const int64_t d = points_.d;
    const float share = static_cast<float>(k_) / static_cast<float>(points_.n);
    std::vector<double> squares((d + kBlockColumns - 1) / kBlockColumns);
    ForBlocksOfColumns(d, [&](int64_t first, int64_t columns) {
      for (const Move& move : moves) {
        const float* row = points_.rows + move.row * d + first;
        if (move.from >= 0) kernels::AddRow(row, columns, -1, &sums_kd_[move.from * d + first]);
        kernels::AddRow(row, columns, 1, &sums_kd_[move.to * d + first]);
      }
      for (int64_t c = 0; c < k_; ++c) {
        const double* sum = &sums_kd_[c * d + first];
        squares[first / kBlockColumns] += kernels::SquaredLength(sum, columns);
        for (int64_t j = 0; j < columns; ++j) {
          means_kd_[c * d + first + j] = share * static_cast<float>(sum[j]);
        }
      }
    });
    squares_of_sums_ = Sum(squares);
    cluster_ = cluster;
  }

 private:
  struct Move {
    int64_t row;
    int32_t from, to;  // from -1: it was nowhere
  };

  std::vector<Move> MovesTo(const std::vector<int32_t>& cluster) const {
    std::vector<Move> moves;
    for (int64_t i = 0; i < points_.n; ++i) {
      const int32_t from = cluster_.empty() ? -1 : cluster_[i];
      if (from != cluster[i]) moves.push_back({i, from, cluster[i]});
    }
    return moves;
  }

  const Points& points_;
  const int64_t k_;
  std::vector<int32_t> cluster_;  // of each row; empty at the start
  std::vector<double> sums_kd_;
  std::vector<float> means_kd_;
  double squares_of_sums_ = 0;
};

// What a row pays per centre, up to what it pays anywhere: half of |x - c|^2, or 1 - cos.
void Costs(const Points& points, const std::vector<float>& products_nk,
           const std::vector<float>& centres_kd, int64_t k, Metric metric,
           std::vector<float>& cost_nk) {
  const std::vector<double> squared_length = SquaredLengths(centres_kd.data(), k, points.d);
  for (int64_t i = 0; i < points.n && metric == Metric::kL2; ++i) {
    for (int64_t c = 0; c < k; ++c) {
      cost_nk[i * k + c] = static_cast<float>(0.5 * squared_length[c] - products_nk[i * k + c]);
    }
  }
  for (int64_t i = 0; i < points.n && metric == Metric::kCosine; ++i) {
    for (int64_t c = 0; c < k; ++c) {
      const double lengths = std::sqrt(points.squared_length[i] * squared_length[c]);
      cost_nk[i * k + c] =
          lengths > 0 ? static_cast<float>(-products_nk[i * k + c] / lengths) : 0.0f;
    }
  }
}

// A row pulls the mean of its cluster towards itself by |x|^2 / size, which says nothing about
// where it belongs but keeps it there: takes that off, as if the row were new to all clusters
// (Hartigan 1975).
void LeaveOutOwnShares(const Points& points, const std::vector<int32_t>& cluster, int64_t k,
                       std::vector<float>& cost_nk) {
  const double share = static_cast<double>(k) / static_cast<double>(points.n);
  for (int64_t i = 0; i < points.n; ++i) {
    cost_nk[i * k + cluster[i]] += static_cast<float>(share * points.squared_length[i]);
  }
}

double SumOfCosines(const std::vector<float>& cost_nk, int64_t k,
                    const std::vector<int32_t>& cluster) {
  double sum = 0;
  for (size_t i = 0; i < cluster.size(); ++i) sum -= cost_nk[i * k + cluster[i]];
  return sum;
}

Clustering Run(const Points& points, std::vector<float> centres, const KMeansOptions& options) {
  const int64_t n = points.n, d = points.d, k = static_cast<int64_t>(centres.size()) / d;
  MOE_CHECK(k >= 1 && n % k == 0);
  Clustering best{.cluster = {}, .centres_k_d = {}, .objective = kInfinity, .iterations = 0};
  std::vector<float> products_nk(n * k), cost_nk(n * k);
  std::vector<int32_t> before;
  ClusterMeans means(points, k);
  double objective = 0;
  const auto assign = [&](bool leave_out_own_shares) {
    Costs(points, products_nk, centres, k, options.metric, cost_nk);
    if (leave_out_own_shares) LeaveOutOwnShares(points, before, k, cost_nk);
    Assignment assignment = BalancedAssignment(cost_nk, k);
    means.Update(assignment.cluster);
    objective = options.metric == Metric::kL2
                    ? means.SquaredDistances()
                    : static_cast<double>(n) - SumOfCosines(cost_nk, k, assignment.cluster);
    return assignment;
  };
  bool leaves_out_own_shares = options.metric == Metric::kL2;
  // As published, a last assignment to the last centres counts as no iteration.
  for (int64_t iteration = 1; iteration <= options.max_iterations + 1; ++iteration) {
    kernels::RowProducts(points.rows, n, centres.data(), k, d, products_nk.data());
    Assignment assignment = assign(leaves_out_own_shares && iteration > 1);
    if (leaves_out_own_shares && objective >= best.objective) {
      // Rows that are right to move one by one may be wrong to move together. The plain step never
      // raises the objective.
      leaves_out_own_shares = false;
      assignment = assign(false);
    }
    if (objective < best.objective) {
      best = {.cluster = {assignment.cluster.begin(), assignment.cluster.end()},
              .centres_k_d = means.means_kd(),
              .objective = objective,
              .iterations = std::min(iteration, options.max_iterations)};
    }
    const bool fixed_point = assignment.cluster == before;
    const double shift = kernels::SquaredDistance(centres.data(), means.means_kd().data(), k * d);
    if (fixed_point || shift <= options.tolerance * means.MeanColumnVariance()) break;
    centres = means.means_kd();
    before = std::move(assignment.cluster);
  }
  return best;
}

// k-means++ (Arthur and Vassilvitskii 2007) in the greedy form of scikit-learn: of some candidates
// per centre, the one that leaves the least sum of squared distances.
std::vector<float> StartingCentres(const Points& points, int64_t k, PhiloxGenerator& generator) {
  const int64_t n = points.n, d = points.d;
  const int64_t trials = 2 + static_cast<int64_t>(std::log(static_cast<double>(k)));
  std::vector<float> centres;
  std::vector<double> nearest(n, kInfinity);
  std::vector<float> candidates(trials * d), products(n * trials);
  for (int64_t c = 0; c < k; ++c) {
    std::vector<int64_t> drawn;
    const double total = Sum(nearest);
    for (int64_t t = 0; t < (c == 0 ? 1 : trials); ++t) {
      int64_t row = static_cast<int64_t>(generator.Below(n));
      if (c > 0 && total > 0) {
        double left = UniformDouble(generator.Next32(), generator.Next32()) * total;
        row = 0;
        while (row < n - 1 && (left -= nearest[row]) >= 0) ++row;
      }
      drawn.push_back(row);
      std::copy_n(points.rows + row * d, d, candidates.data() + t * d);
    }
    const int64_t count = static_cast<int64_t>(drawn.size());
    kernels::RowProducts(points.rows, n, candidates.data(), count, d, products.data());
    std::vector<double> best_nearest;
    double best_total = kInfinity;
    int64_t best = 0;
    for (int64_t t = 0; t < count; ++t) {
      std::vector<double> with(n);
      double sum = 0;
      for (int64_t i = 0; i < n; ++i) {
        const double distance = points.squared_length[i] + points.squared_length[drawn[t]] -
                                2.0 * products[i * count + t];
        with[i] = std::min(nearest[i], std::max(0.0, distance));
        sum += with[i];
      }
      if (sum < best_total) {
        best_total = sum;
        best = t;
        best_nearest = std::move(with);
      }
    }
    nearest = std::move(best_nearest);
    centres.insert(centres.end(), candidates.begin() + best * d,
                   candidates.begin() + (best + 1) * d);
  }
  return centres;
}

}  // namespace

void NormaliseRows(float* rows_nd, int64_t n, int64_t d) {
  kernels::ParallelFor(n, kBlockRows, [=](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* row = rows_nd + i * d;
      const double length = std::sqrt(kernels::SquaredLength(row, d));
      if (length == 0) continue;
      const float scale = static_cast<float>(1 / length);
      for (int64_t j = 0; j < d; ++j) row[j] *= scale;
    }
  });
}

Clustering BalancedKMeansFrom(const std::vector<float>& rows_nd, int64_t d,
                              std::vector<float> centres_k_d, const KMeansOptions& options) {
  return Run(Prepare(rows_nd, d, options.metric), std::move(centres_k_d), options);
}

Clustering BalancedKMeans(const std::vector<float>& rows_nd, int64_t d, int64_t num_clusters,
                          const KMeansOptions& options) {
  MOE_CHECK(options.restarts >= 1);
  const Points points = Prepare(rows_nd, d, options.metric);
  PhiloxGenerator generator(options.seed, RandomStream::kExpertPartition, options.stream);
  Clustering best;
  for (int64_t run = 0; run < options.restarts; ++run) {
    Clustering candidate = Run(points, StartingCentres(points, num_clusters, generator), options);
    if (run == 0 || candidate.objective < best.objective) best = std::move(candidate);
  }
  return best;
}

}  // namespace moe::construction
