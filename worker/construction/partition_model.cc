#include "worker/construction/partition_model.h"

#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/status.h"
#include "worker/construction/coactivation_split.h"
#include "worker/model/arena.h"
#include "worker/model/parameters.h"

namespace moe::construction {
namespace {

// What the pair matrices of the layers that one pass over the text measures may take.
constexpr int64_t kPairsBytes = int64_t{2} << 30;

// The layers that get experts.
std::vector<int64_t> LayersOf(const artefacts::ModelConfig& dense, const MethodOptions& options) {
  if (!options.layers.empty()) return options.layers;
  std::vector<int64_t> all(dense.num_layers);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

absl::Status Stopped() { return Cancelled("the partition was stopped"); }

class Partitioner {
 public:
  Partitioner(const artefacts::ModelConfig& dense, const at::Tensor& parameters,
              const sampler::Dataset* dataset, const MethodOptions& options,
              const PartitionProgress& progress)
      : dense_(dense),
        parameters_(parameters),
        dataset_(dataset),
        options_(options),
        progress_(progress),
        layers_(LayersOf(dense, options)) {
    result_.partition.layers.resize(dense.num_layers);
  }

  absl::StatusOr<ModelPartition> Run() {
    switch (options_.method) {
      case Method::kIndependentRandom:
        return ByLayer([this](int64_t layer) {
          return IndependentRandomLayer(layer, dense_.intermediate_size, options_.num_experts,
                                        options_.seed);
        });
      case Method::kIndependentClustering:
        return ByLayer([this](int64_t layer) { return Cluster(layer); });
      case Method::kPruneRandom:
        return ByLayer([this](int64_t layer) {
          return OneExpert(
              PruneAtRandom(dense_.intermediate_size, options_.expert_width, layer, options_.seed));
        });
      case Method::kCoactivationGraph:
        return ByCoactivation();
      case Method::kIndependentImportance:
      case Method::kSharingInner:
      case Method::kSharingInter:
      case Method::kPruneImportance:
        return ByImportance();
    }
    return Internal("unknown method");
  }

 private:
  static LayerPartition OneExpert(Neurons neurons) {
    return {.experts = {std::move(neurons)}, .shared = {}};
  }

  template <typename Split>
  absl::StatusOr<ModelPartition> ByLayer(const Split& split) {
    int64_t done = 0;
    for (const int64_t layer : layers_) {
      result_.partition.layers[layer] = split(layer);
      if (!Progress(++done, std::ssize(layers_), "layers")) return Stopped();
    }
    return std::move(result_);
  }

  LayerPartition Cluster(int64_t layer) const {
    KMeansOptions kmeans = options_.kmeans;
    kmeans.seed = options_.seed;
    kmeans.stream = static_cast<uint32_t>(layer);
    const Clustering clustering =
        BalancedKMeans(NormalisedRows(dense_, parameters_, layer, options_.cluster_rows),
                       dense_.hidden_size, options_.num_experts, kmeans);
    return FromLabels(clustering.cluster, options_.num_experts);
  }

  absl::StatusOr<ModelPartition> ByImportance() {
    MOE_ASSIGN_OR_RETURN(std::vector<TextGroup> groups, Groups());
    result_.scores =
        MeasureImportance(dense_, parameters_, groups, options_.importance, CountSamples(groups));
    if (result_.scores.empty()) return Stopped();
    for (const int64_t layer : layers_) {
      result_.partition.layers[layer] = Split(result_.scores[layer]);
    }
    return std::move(result_);
  }

  LayerPartition Split(const Scores& scores) const {
    switch (options_.method) {
      case Method::kIndependentImportance:
        return IndependentImportance(scores, options_.criterion);
      case Method::kSharingInner:
        return SharingInner(scores, options_.expert_width, options_.criterion);
      case Method::kSharingInter:
        return SharingInter(scores,
                            {.num_shared_experts = options_.num_shared_experts,
                             .expert_width = options_.expert_width,
                             .overlap = options_.overlap},
                            options_.criterion);
      default:
        return OneExpert(PruneByImportance(scores[0], options_.expert_width, options_.criterion));
    }
  }

  absl::StatusOr<ModelPartition> ByCoactivation() {
    MOE_ASSIGN_OR_RETURN(const std::vector<TextGroup> groups, Groups());
    const int64_t width = dense_.intermediate_size;
    const int64_t at_once =
        std::max<int64_t>(1, kPairsBytes / (width * width * int64_t{sizeof(float)}));
    const int64_t passes = (dense_.num_layers + at_once - 1) / at_once;
    for (int64_t pass = 0; pass < passes; ++pass) {
      const int64_t first = pass * at_once, count = std::min(at_once, dense_.num_layers - first);
      const int64_t samples = std::ssize(groups[0]);
      const std::vector<at::Tensor> pairs =
          MeasureCoactivation(dense_, parameters_, groups[0], options_.coactivation_kernel,
                              options_.coactivation_threshold, first, count, [&](int64_t done) {
                                return Progress(pass * samples + done, passes * samples, "samples");
                              });
      if (pairs.empty()) return Stopped();
      for (const int64_t layer : layers_) {
        if (layer < first || layer >= first + count) continue;
        result_.partition.layers[layer] =
            CoactivationSplit(pairs[layer - first].const_data_ptr<float>(), width,
                              options_.num_experts, layer, options_.seed);
      }
    }
    return std::move(result_);
  }

  // A list of scores per routed expert; one of all text where experts are not made by group.
  absl::StatusOr<std::vector<TextGroup>> Groups() const {
    const bool one = options_.method == Method::kPruneImportance ||
                     options_.method == Method::kCoactivationGraph;
    if (!one && !options_.group_by_domain) {
      const at::Tensor embed_Vd =
          model::View(parameters_, model::ParameterLayout(dense_).Find("embed"));
      return GroupsByCluster(*dataset_, embed_Vd, options_.num_experts, options_.text);
    }
    MOE_ASSIGN_OR_RETURN(std::vector<TextGroup> groups, GroupsByDomain(*dataset_, options_.text));
    if (one) {
      for (size_t g = 1; g < groups.size(); ++g) {
        groups[0].insert(groups[0].end(), groups[g].begin(), groups[g].end());
      }
      groups.resize(1);
      return groups;
    }
    if (std::ssize(groups) != options_.num_experts) {
      return InvalidArgument(
          "importance.groups=domain makes one expert per domain: the dataset has {} domains and "
          "num_experts={}; use groups=cluster or num_experts={}",
          groups.size(), options_.num_experts, groups.size());
    }
    return groups;
  }

  SampleProgress CountSamples(const std::vector<TextGroup>& groups) const {
    int64_t total = 0;
    for (const TextGroup& group : groups) total += std::ssize(group);
    return [this, total](int64_t done) { return Progress(done, total, "samples"); };
  }

  bool Progress(int64_t done, int64_t total, const char* unit) const {
    return progress_(done, total, unit);
  }

  const artefacts::ModelConfig& dense_;
  const at::Tensor& parameters_;
  const sampler::Dataset* const dataset_;
  const MethodOptions& options_;
  const PartitionProgress& progress_;
  const std::vector<int64_t> layers_;
  ModelPartition result_;
};

}  // namespace

absl::Status CompleteMethod(const artefacts::ModelConfig& dense, MethodOptions& options) {
  if (dense.is_moe()) {
    return InvalidArgument("the model is a mixture of {} experts already; give a dense one",
                           dense.moe.num_experts);
  }
  const int64_t width = dense.intermediate_size;
  const int64_t all = options.num_experts + options.num_shared_experts;
  if (options.expert_width == 0 && IsPruning(options.method)) {
    options.expert_width =
        std::max<int64_t>(1, static_cast<int64_t>(static_cast<double>(width) * options.retain));
  }
  if (options.expert_width == 0) {
    MOE_RETURN_IF_ERROR(CheckSplit(width, all));
    options.expert_width = width / all;
  }
  const int64_t each = options.expert_width;
  if (each < 1 || each > width) {
    return InvalidArgument("expert_width={} is out of range; use 1 to the FFN width {}", each,
                           width);
  }
  int64_t previous = -1;
  for (const int64_t layer : options.layers) {
    if (layer <= previous || layer >= dense.num_layers) {
      return InvalidArgument("layers=[{}] must ascend within the model's {} layers, 0 to {}",
                             fmt::join(options.layers, ", "), dense.num_layers,
                             dense.num_layers - 1);
    }
    previous = layer;
  }
  const bool may_overlap = options.method == Method::kSharingInner ||
                           (options.method == Method::kSharingInter && options.overlap);
  if (!IsPruning(options.method) && !may_overlap && all * each != width) {
    return InvalidArgument(
        "{} experts ({} of them shared) of expert_width={} hold {} neurons, the FFN has {}; leave "
        "expert_width out or use a method whose experts may overlap",
        all, options.num_shared_experts, each, all * each, width);
  }
  if (may_overlap && (options.num_shared_experts + 1) * each > width) {
    return InvalidArgument(
        "{} shared experts and another of expert_width={} need {} neurons, the FFN has {}; use a "
        "width of at most {}",
        options.num_shared_experts, each, (options.num_shared_experts + 1) * each, width,
        width / (options.num_shared_experts + 1));
  }
  return absl::OkStatus();
}

absl::StatusOr<ModelPartition> PartitionModel(const artefacts::ModelConfig& dense,
                                              const at::Tensor& parameters,
                                              const sampler::Dataset* dataset,
                                              const MethodOptions& options,
                                              const PartitionProgress& progress) {
  return Partitioner(dense, parameters, dataset, options, progress).Run();
}

std::vector<float> NormalisedRows(const artefacts::ModelConfig& dense, const at::Tensor& parameters,
                                  int64_t layer, Projection projection) {
  const model::ParameterLayout layout(dense);
  const int64_t width = dense.intermediate_size, d = dense.hidden_size;
  const float* gate_up = parameters.const_data_ptr<float>() +
                         layout.Find("layers." + std::to_string(layer) + ".gate_up").offset;
  const float* rows = gate_up + (projection == Projection::kUp ? width * d : 0);
  std::vector<float> result(rows, rows + width * d);
  NormaliseRows(result.data(), width, d);
  return result;
}

}  // namespace moe::construction
