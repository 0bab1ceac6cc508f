// Runs our balanced k-means from given centres: clustering ROWS CENTRES LABELS d k iterations
// repeats seconds threads, at least so often and so long. ROWS and CENTRES are raw fp32, LABELS is
// written as raw int64. Prints the seconds of every repeat as a JSON list; checks nothing that the
// benchmark's script does not.
#include <ATen/Parallel.h>

#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <string>
#include <vector>

#include "common/huge_pages.h"
#include "worker/construction/balanced_kmeans.h"

namespace {

std::vector<float> ReadFloats(const char* path) {
  std::ifstream file(path, std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  std::vector<float> values;
  values.reserve(bytes.size() / sizeof(float));
  moe::AdviseHugePages(values.data(), bytes.size());  // as PartitionModel's rows have them
  values.resize(bytes.size() / sizeof(float));
  std::copy_n(bytes.data(), values.size() * sizeof(float), reinterpret_cast<char*>(values.data()));
  return values;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 10) {
    std::fprintf(stderr,
                 "usage: clustering ROWS CENTRES LABELS d k iterations repeats seconds "
                 "threads\n");
    return 2;
  }
  const std::vector<float> rows = ReadFloats(argv[1]), centres = ReadFloats(argv[2]);
  const int64_t d = std::atoll(argv[4]), k = std::atoll(argv[5]);
  const moe::construction::KMeansOptions options{.max_iterations = std::atoll(argv[6]),
                                                 .tolerance = 0};
  at::set_num_threads(std::atoi(argv[9]));
  if (rows.empty() || static_cast<int64_t>(centres.size()) != k * d) {
    std::fprintf(stderr, "clustering: %s or %s is not what was said\n", argv[1], argv[2]);
    return 1;
  }
  std::printf("[");
  moe::construction::Clustering clustering;
  double total = 0;
  for (int repeat = 0; repeat < std::atoi(argv[7]) || total < std::atof(argv[8]); ++repeat) {
    const auto start = std::chrono::steady_clock::now();
    clustering = moe::construction::BalancedKMeansFrom(rows, d, centres, options);
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
    std::printf("%s%.6f", repeat == 0 ? "" : ", ", seconds.count());
    total += seconds.count();
  }
  std::printf("]\n");
  std::ofstream(argv[3], std::ios::binary)
      .write(reinterpret_cast<const char*>(clustering.cluster.data()),
             static_cast<std::streamsize>(clustering.cluster.size() * sizeof(int64_t)));
  return 0;
}
