// n rows, d columns, k clusters.
#include "worker/construction/balanced_kmeans.h"

#include <algorithm>
#include <cmath>
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
// At least so many per thread. No sum is cut, so that none depends on the number of threads.
constexpr int64_t kRowsPerThread = 64, kCostsPerThread = 1024, kColumnsPerThread = 128;

double Sum(const std::vector<double>& values) {
  return std::accumulate(values.begin(), values.end(), 0.0);
}

using RowGroups = std::vector<std::vector<const float*>>;

// sums_gd[g] += sign * the rows of group g.
void AddRows(const RowGroups& groups, int64_t d, double sign, std::vector<double>& sums_gd) {
  kernels::ParallelFor(d, kColumnsPerThread, [&](int64_t begin, int64_t end) {
    std::vector<const float*> parts;
    for (int64_t g = 0; g < std::ssize(groups); ++g) {
      parts.clear();
      for (const float* row : groups[g]) parts.push_back(row + begin);
      kernels::AddToSum(parts.data(), std::ssize(parts), end - begin, sign,
                        &sums_gd[g * d + begin]);
    }
  });
}

// Of every `step`-th row.
std::vector<float> ColumnMeans(const float* rows_nd, int64_t n, int64_t d, int64_t step) {
  RowGroups rows(1);
  for (int64_t i = 0; i < n; i += step) rows[0].push_back(rows_nd + i * d);
  std::vector<double> sums_d(d);
  AddRows(rows, d, 1, sums_d);
  const double count = static_cast<double>(rows[0].size());
  std::vector<float> means_d(d);
  for (int64_t j = 0; j < d; ++j) means_d[j] = static_cast<float>(sums_d[j] / count);
  return means_d;
}

// Rows x less an offset that they share. Neither metric minds: squared distances have no origin,
// and cosines are of rows less their mean. Centres are less the offset as well.
struct Points {
  const float* rows;            // [n, d]: x
  std::vector<float> offset_d;  // kL2: the mean of some rows, near enough; kCosine: of all
  std::vector<double> squared_length;
  double sum_of_squares;
  kernels::RoundedRows rounded;  // what bf16 costs is a share of what is left without the offset
  int64_t n, d;
};

Points Prepare(const std::vector<float>& rows_nd, int64_t d, Metric metric) {
  constexpr int64_t kSample = 64;
  const int64_t n = static_cast<int64_t>(rows_nd.size()) / d;
  const int64_t step = metric == Metric::kCosine ? 1 : std::max<int64_t>(1, n / kSample);
  Points points{.rows = rows_nd.data(),
                .offset_d = ColumnMeans(rows_nd.data(), n, d, step),
                .squared_length = std::vector<double>(n),
                .sum_of_squares = 0,
                .rounded = {n, d},
                .n = n,
                .d = d};
  kernels::ParallelFor(n, kRowsPerThread, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      points.squared_length[i] = points.rounded.Set(i, points.rows + i * d, points.offset_d.data());
    }
  });
  points.sum_of_squares = Sum(points.squared_length);
  return points;
}

// vectors_md less (sign -1) or with (sign 1) the offset.
std::vector<float> Shifted(std::vector<float> vectors_md, const Points& points, float sign) {
  for (auto vector = vectors_md.begin(); vector != vectors_md.end(); vector += points.d) {
    for (int64_t j = 0; j < points.d; ++j) vector[j] += sign * points.offset_d[j];
  }
  return vectors_md;
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
    return points_.sum_of_squares - squares_of_sums_ / static_cast<double>(rows_each);
  }
  // E|x|^2 - |E x|^2, spread over the columns: the same for every assignment.
  double MeanColumnVariance() const {
    const double n = static_cast<double>(points_.n), d = static_cast<double>(points_.d);
    std::vector<double> sum_d(points_.d);
    for (int64_t c = 0; c < k_; ++c) {
      for (int64_t j = 0; j < points_.d; ++j) sum_d[j] += sums_kd_[c * points_.d + j];
    }
    const double square = kernels::SquaredLength(sum_d.data(), points_.d) / (n * n);
    return std::max(0.0, points_.sum_of_squares / n - square) / d;
  }

  void Update(const std::vector<int32_t>& cluster) {
    const int64_t d = points_.d;
    int64_t moved = 0;
    for (size_t i = 0; i < cluster_.size(); ++i) moved += cluster_[i] != cluster[i];
    // A row that moves is added twice; all of them are added once.
    if (cluster_.empty() || moved > points_.n / 2) {
      cluster_.clear();
      const int64_t rows_each = points_.n / k_;
      const auto size = static_cast<double>(rows_each);
      for (int64_t i = 0; i < k_ * d; ++i) sums_kd_[i] = -size * points_.offset_d[i % d];
    }
    RowGroups entering(k_), leaving(k_);
    for (int64_t i = 0; i < points_.n; ++i) {
      const float* row = points_.rows + i * d;
      const bool is_new = cluster_.empty();
      if (!is_new && cluster_[i] == cluster[i]) continue;
      entering[cluster[i]].push_back(row);
      if (!is_new) leaving[cluster_[i]].push_back(row);
    }
    AddRows(entering, d, 1, sums_kd_);
    AddRows(leaving, d, -1, sums_kd_);
    cluster_ = cluster;
    const double share = static_cast<double>(k_) / static_cast<double>(points_.n);
    for (size_t i = 0; i < sums_kd_.size(); ++i) {
      means_kd_[i] = static_cast<float>(share * sums_kd_[i]);
    }
    squares_of_sums_ = kernels::SquaredLength(sums_kd_.data(), std::ssize(sums_kd_));
  }

 private:
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
  std::vector<double> squared_length;
  for (int64_t c = 0; c < k; ++c) {
    squared_length.push_back(kernels::SquaredLength(&centres_kd[c * points.d], points.d));
  }
  kernels::ParallelFor(points.n, kCostsPerThread, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      const float* products = &products_nk[i * k];
      float* costs = &cost_nk[i * k];
      for (int64_t c = 0; c < k && metric == Metric::kL2; ++c) {
        costs[c] = static_cast<float>(0.5 * squared_length[c] - products[c]);
      }
      for (int64_t c = 0; c < k && metric == Metric::kCosine; ++c) {
        const double lengths = std::sqrt(points.squared_length[i] * squared_length[c]);
        costs[c] = lengths > 0 ? static_cast<float>(-products[c] / lengths) : 0.0f;
      }
    }
  });
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

// `centres` less the offset.
Clustering Run(const Points& points, std::vector<float> centres, const KMeansOptions& options) {
  const int64_t n = points.n, d = points.d, k = static_cast<int64_t>(centres.size()) / d;
  MOE_CHECK(k >= 1 && n % k == 0);
  Clustering best{.cluster = {}, .centres_k_d = {}, .objective = kInfinity, .iterations = 0};
  std::vector<float> products_nk(n * k), cost_nk(n * k);
  std::vector<int32_t> before;
  ClusterMeans means(points, k);
  double objective = 0, allowed_shift = 0;
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
    points.rounded.Products(centres.data(), k, products_nk.data());
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
    if (iteration == 1) allowed_shift = options.tolerance * means.MeanColumnVariance();
    const bool fixed_point = assignment.cluster == before;
    const double shift = kernels::SquaredDistance(centres.data(), means.means_kd().data(), k * d);
    if (fixed_point || shift <= allowed_shift) break;
    centres = means.means_kd();
    before = std::move(assignment.cluster);
  }
  best.centres_k_d = Shifted(std::move(best.centres_k_d), points, 1);
  return best;
}

// k-means++ (Arthur and Vassilvitskii 2007) in the greedy form of scikit-learn: of some candidates
// per centre, the one that leaves the least sum of squared distances. Less the offset.
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
      for (int64_t j = 0; j < d; ++j) {
        candidates[t * d + j] = points.rows[row * d + j] - points.offset_d[j];
      }
    }
    const int64_t count = static_cast<int64_t>(drawn.size());
    points.rounded.Products(candidates.data(), count, products.data());
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
  kernels::ParallelFor(n, kRowsPerThread, [=](int64_t begin, int64_t end) {
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
  const Points points = Prepare(rows_nd, d, options.metric);
  return Run(points, Shifted(std::move(centres_k_d), points, -1), options);
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
