#include "worker/construction/report.h"

#include <algorithm>
#include <iterator>
#include <numeric>
#include <string>

namespace moe::construction {
namespace {

// The neurons as flags.
std::vector<bool> Members(const Neurons& neurons, int64_t width) {
  std::vector<bool> members(width);
  for (const int64_t n : neurons) members[n] = true;
  return members;
}

double MeanOverlap(const std::vector<Neurons>& experts, int64_t width) {
  if (experts.size() < 2) return 0;
  double common = 0;
  for (const Neurons& expert : experts) {
    const std::vector<bool> members = Members(expert, width);
    for (const Neurons& other : experts) {
      if (&other == &expert) continue;
      common += static_cast<double>(
          std::count_if(other.begin(), other.end(), [&](int64_t n) { return members[n]; }));
    }
  }
  const double pairs = static_cast<double>(experts.size() * (experts.size() - 1));
  return common / pairs / static_cast<double>(experts[0].size());
}

// Expert e with the shared ones, by its group's scores.
double MeanCoverage(const LayerPartition& layer, const Scores& scores) {
  double sum = 0;
  for (size_t e = 0; e < layer.experts.size(); ++e) {
    double held = 0;
    for (const int64_t n : layer.experts[e]) held += scores[e][n];
    for (const int64_t n : layer.shared) held += scores[e][n];
    const double all = std::accumulate(scores[e].begin(), scores[e].end(), 0.0);
    sum += all > 0 ? held / all : 1;
  }
  return sum / static_cast<double>(layer.experts.size());
}

}  // namespace

std::vector<LayerReport> ReportPartition(const Partition& partition, int64_t width,
                                         const std::vector<Scores>* scores) {
  std::vector<LayerReport> reports;
  for (size_t i = 0; i < partition.layers.size(); ++i) {
    const LayerPartition& layer = partition.layers[i];
    if (layer.experts.empty()) continue;
    std::vector<bool> used = Members(layer.shared, width);
    for (const Neurons& expert : layer.experts) {
      for (const int64_t n : expert) used[n] = true;
    }
    LayerReport& report = reports.emplace_back();
    report.layer = static_cast<int64_t>(i);
    report.num_experts = std::ssize(layer.experts);
    report.expert_width = std::ssize(layer.experts[0]);
    report.shared_width = std::ssize(layer.shared);
    report.overlap = MeanOverlap(layer.experts, width);
    report.unused = static_cast<double>(std::count(used.begin(), used.end(), false)) /
                    static_cast<double>(width);
    if (scores != nullptr) report.coverage = MeanCoverage(layer, (*scores)[i]);
  }
  return reports;
}

Json ReportTable(const std::vector<LayerReport>& layers, const std::vector<double>& scales) {
  Json table = Json::array();
  table.push_back(
      {"LAYER", "EXPERTS", "WIDTH", "SHARED", "OVERLAP", "UNUSED", "IMPORTANCE", "SCALE"});
  for (const LayerReport& layer : layers) {
    table.push_back({std::to_string(layer.layer), layer.num_experts, layer.expert_width,
                     layer.shared_width, layer.overlap, layer.unused,
                     layer.coverage < 0 ? Json("-") : Json(layer.coverage),
                     scales.empty() ? Json("-") : Json(scales[layer.layer])});
  }
  return table;
}

}  // namespace moe::construction
