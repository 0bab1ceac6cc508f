// n rows, d columns, k clusters; b rows of one block.
#include "worker/construction/balanced_kmeans.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "common/check.h"
#include "common/philox.h"
#include "worker/construction/balanced_assignment.h"
#include "worker/kernels/gemm.h"
#include "worker/kernels/parallel.h"

namespace moe::construction {
namespace {

using kernels::Gemm;
using kernels::Matrix;

// Work is cut into pieces of fixed size, each done by one thread, so that sums do not depend on the
// number of threads.
constexpr int64_t kBlockRows = 256;
constexpr int64_t kBlockColumns = 256;

// The rows as the metric sees them, and their squared lengths.
struct Points {
  std::vector<float> rows;  // [n, d]
  std::vector<double> squared_length;
  int64_t n, d;
  double mean_column_variance;
};

double Dot(const float* a, const float* b, int64_t d) {
  double sum = 0;
  for (int64_t i = 0; i < d; ++i) sum += double{a[i]} * b[i];
  return sum;
}

// Fills means_d and returns the mean of the columns' variances.
double ColumnMeans(const std::vector<float>& rows_nd, int64_t n, int64_t d,
                   std::vector<double>& means_d) {
  means_d.assign(d, 0);
  std::vector<double> variances(d);
  kernels::ParallelFor(d, kBlockColumns, [&](int64_t begin, int64_t end) {
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = begin; j < end; ++j) means_d[j] += rows_nd[i * d + j];
    }
    for (int64_t j = begin; j < end; ++j) means_d[j] /= static_cast<double>(n);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = begin; j < end; ++j) {
        const double difference = rows_nd[i * d + j] - means_d[j];
        variances[j] += difference * difference;
      }
    }
  });
  double sum = 0;
  for (const double variance : variances) sum += variance / static_cast<double>(n);
  return sum / static_cast<double>(d);
}

Points Prepare(const std::vector<float>& rows_nd, int64_t d, Metric metric) {
  Points points{.rows = rows_nd,
                .squared_length = {},
                .n = static_cast<int64_t>(rows_nd.size()) / d,
                .d = d,
                .mean_column_variance = 0};
  std::vector<double> means_d;
  points.mean_column_variance = ColumnMeans(rows_nd, points.n, d, means_d);
  points.squared_length.resize(points.n);
  kernels::ParallelFor(points.n, kBlockRows, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      float* row = points.rows.data() + i * d;
      if (metric == Metric::kCosine) {
        for (int64_t j = 0; j < d; ++j) row[j] -= static_cast<float>(means_d[j]);
      }
      points.squared_length[i] = Dot(row, row, d);
    }
  });
  return points;
}

// products_nm = rows times vectors_md transposed.
void Products(const Points& points, const float* vectors_md, int64_t m, float* products_nm) {
  const int64_t blocks = (points.n + kBlockRows - 1) / kBlockRows;
  kernels::ParallelTasks(blocks, [&](int64_t /*worker*/, int64_t block) {
    const int64_t first = block * kBlockRows, b = std::min(kBlockRows, points.n - first);
    Gemm(Matrix<const float>(points.rows.data() + first * points.d, b, points.d),
         Matrix<const float>(vectors_md, m, points.d).Transposed(), kernels::Output::kOverwrite,
         Matrix<float>(products_nm + first * m, b, m));
  });
}

// From products of rows and centres to what a row pays per centre, up to what it pays anywhere:
// |x - c|^2 less |x|^2, or 1 - cos less 1.
void ProductsToCosts(const Points& points, const std::vector<float>& centres_k_d, int64_t k,
                     Metric metric, std::vector<float>& products_nk) {
  std::vector<double> squared_length(k);
  for (int64_t c = 0; c < k; ++c) {
    const float* centre = centres_k_d.data() + c * points.d;
    squared_length[c] = Dot(centre, centre, points.d);
  }
  for (int64_t i = 0; i < points.n; ++i) {
    for (int64_t c = 0; c < k; ++c) {
      float& value = products_nk[i * k + c];
      if (metric == Metric::kL2) {
        value = static_cast<float>(squared_length[c] - 2.0 * value);
      } else {
        const double lengths = std::sqrt(squared_length[c] * points.squared_length[i]);
        value = lengths > 0 ? static_cast<float>(-value / lengths) : 0.0f;
      }
    }
  }
}

double Objective(const Points& points, const std::vector<float>& cost_nk, int64_t k, Metric metric,
                 const std::vector<int32_t>& cluster) {
  double sum = 0;
  for (int64_t i = 0; i < points.n; ++i) {
    sum += cost_nk[i * k + cluster[i]] + (metric == Metric::kL2 ? points.squared_length[i] : 1.0);
  }
  return sum;
}

std::vector<float> Means(const Points& points, const std::vector<int32_t>& cluster, int64_t k) {
  const int64_t d = points.d, blocks = (d + kBlockColumns - 1) / kBlockColumns;
  const float share = static_cast<float>(k) / static_cast<float>(points.n);
  std::vector<float> means(k * d);
  kernels::ParallelTasks(blocks, [&](int64_t /*worker*/, int64_t block) {
    const int64_t first = block * kBlockColumns, columns = std::min(kBlockColumns, d - first);
    std::vector<float> sums(k * columns);
    for (int64_t i = 0; i < points.n; ++i) {
      const float* row = points.rows.data() + i * d + first;
      float* sum = sums.data() + cluster[i] * columns;
      for (int64_t j = 0; j < columns; ++j) sum[j] += row[j];
    }
    for (int64_t c = 0; c < k; ++c) {
      for (int64_t j = 0; j < columns; ++j)
        means[c * d + first + j] = share * sums[c * columns + j];
    }
  });
  return means;
}

double SquaredShift(const std::vector<float>& a, const std::vector<float>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += double{a[i] - b[i]} * (a[i] - b[i]);
  return sum;
}

Clustering Run(const Points& points, std::vector<float> centres, const KMeansOptions& options) {
  const int64_t k = static_cast<int64_t>(centres.size()) / points.d;
  MOE_CHECK(k >= 1 && points.n % k == 0);
  Clustering best{.cluster = {}, .centres_k_d = {}, .objective = 0, .iterations = 0};
  std::vector<float> cost_nk(points.n * k);
  std::vector<double> prices(k);
  std::vector<int32_t> before;
  double best_objective = std::numeric_limits<double>::infinity();
  for (int64_t iteration = 1; iteration <= options.max_iterations; ++iteration) {
    Products(points, centres.data(), k, cost_nk.data());
    ProductsToCosts(points, centres, k, options.metric, cost_nk);
    Assignment assignment = BalancedAssignment(cost_nk, k, std::move(prices));
    prices = std::move(assignment.prices);
    const double objective = Objective(points, cost_nk, k, options.metric, assignment.cluster);
    std::vector<float> means = Means(points, assignment.cluster, k);
    if (objective < best_objective) {
      best_objective = objective;
      best = {.cluster = {assignment.cluster.begin(), assignment.cluster.end()},
              .centres_k_d = means,
              .objective = objective,
              .iterations = iteration};
    }
    const double shift = SquaredShift(centres, means);
    centres = std::move(means);
    const bool fixed_point = assignment.cluster == before;
    if (fixed_point || shift <= options.tolerance * points.mean_column_variance) break;
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
  std::vector<double> nearest(n, std::numeric_limits<double>::infinity());
  std::vector<float> candidates(trials * d), products(n * trials);
  for (int64_t c = 0; c < k; ++c) {
    std::vector<int64_t> drawn;
    double total = 0;
    for (const double distance : nearest) total += distance;
    for (int64_t t = 0; t < (c == 0 ? 1 : trials); ++t) {
      int64_t row = static_cast<int64_t>(generator.Below(n));
      if (c > 0 && total > 0) {
        double left = UniformDouble(generator.Next32(), generator.Next32()) * total;
        row = 0;
        while (row < n - 1 && (left -= nearest[row]) >= 0) ++row;
      }
      drawn.push_back(row);
      std::copy_n(points.rows.data() + row * d, d, candidates.data() + t * d);
    }
    const int64_t count = static_cast<int64_t>(drawn.size());
    Products(points, candidates.data(), count, products.data());
    std::vector<double> best_nearest;
    double best_total = std::numeric_limits<double>::infinity();
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
      const double length = std::sqrt(Dot(row, row, d));
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
