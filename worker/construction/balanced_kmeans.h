// k-means with clusters of exactly equal size.
//
// n rows (neurons), d columns, k clusters; k divides n.
//
// Source: independent-clustering of LLaMA-MoE (arXiv 2406.16554, section 3.1), whose code uses the
// PyPI package k-means-constrained. Differs: the assignment is exact and minimises the objective
// itself, where the package rounds costs to 1/1000 and minimises unsquared distances; with kL2 a
// row is compared with its own cluster as if it were not in it, as long as that lowers the
// objective. Rows and centres are rounded to bf16 for their products, nowhere else: an assignment
// is exact up to that, means and the objective are of the rows themselves. Results are a function
// of rows, options, seed and kind of CPU, whatever the number of threads.
#pragma once

#include <cstdint>
#include <vector>

namespace moe::construction {

enum class Metric {
  kL2,      // objective: sum of squared distances to the cluster's mean
  kCosine,  // sum of 1 - cos(row, mean), of rows less the mean of all, as published
};

struct KMeansOptions {
  Metric metric = Metric::kL2;
  int64_t restarts = 10;  // as published, with k-means++ centres; the best run is kept
  int64_t max_iterations = 500;
  double tolerance = 1e-4;  // of the centres' squared shift, relative to the mean column variance
  uint64_t seed = 0;
  uint32_t stream = 0;  // the layer: draws are a function of (seed, stream)
};

struct Clustering {
  std::vector<int64_t> cluster;    // [n]
  std::vector<float> centres_k_d;  // means of the clusters
  double objective = 0;            // of kCosine: to the centres before, which the rows chose by
  int64_t iterations = 0;          // of the best run
};

// Scales each row to length 1; a row of zeros stays.
void NormaliseRows(float* rows_nd, int64_t n, int64_t d);

// The best of `options.restarts` runs.
Clustering BalancedKMeans(const std::vector<float>& rows_nd, int64_t d, int64_t num_clusters,
                          const KMeansOptions& options);

// One run from given centres.
Clustering BalancedKMeansFrom(const std::vector<float>& rows_nd, int64_t d,
                              std::vector<float> centres_k_d, const KMeansOptions& options);

}  // namespace moe::construction
