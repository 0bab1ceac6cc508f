#include "worker/construction/partition_model.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/eye.h>
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <numeric>
#include <utility>

#include "common/check.h"
#include "common/huge_pages.h"
#include "common/status.h"
#include "worker/construction/coactivation_split.h"
#include "worker/model/arena.h"
#include "worker/model/parameters.h"

namespace moe::construction {
namespace {

// What the pair matrices of the layers that one pass over the text measures may take.
constexpr int64_t kPairsBytes = int64_t{2} << 30;

// The layers that get experts, ascending.
std::vector<int64_t> LayersOf(const artefacts::ModelConfig& dense, const MethodOptions& options) {
  if (!options.layers.empty()) return options.layers;
  std::vector<int64_t> all(dense.num_layers);
  std::iota(all.begin(), all.end(), 0);
  return all;
}

absl::Status Stopped() { return Cancelled("the partition was stopped"); }

LayerPartition OneExpert(Neurons neurons) {
  return {.experts = {std::move(neurons)}, .shared = {}};
}

// A partition of positions in `neurons` as one of those neurons.
LayerPartition Renamed(LayerPartition partition, const Neurons& neurons) {
  for (Neurons& expert : partition.experts) {
    for (int64_t& n : expert) n = neurons[n];
  }
  for (int64_t& n : partition.shared) n = neurons[n];
  return partition;
}

Scores OfNeurons(const Scores& scores, const Neurons& neurons) {
  Scores some(scores.size());
  for (size_t g = 0; g < scores.size(); ++g) {
    for (const int64_t n : neurons) some[g].push_back(scores[g][n]);
  }
  return some;
}

// By the methods that read text.
class Partitioner {
 public:
  Partitioner(const artefacts::ModelConfig& dense, const at::Tensor& parameters,
              const sampler::Dataset& dataset, const MethodOptions& options,
              const std::vector<Neurons>& dealt, const PartitionProgress& progress)
      : dense_(dense),
        parameters_(parameters),
        dataset_(dataset),
        options_(options),
        dealt_(dealt),
        progress_(progress),
        layers_(LayersOf(dense, options)) {
    result_.partition.layers.resize(dense.num_layers);
  }

  absl::StatusOr<ModelPartition> Run() {
    return options_.method == Method::kCoactivationGraph ? ByCoactivation() : ByImportance();
  }

 private:
  absl::StatusOr<ModelPartition> ByImportance() {
    MOE_ASSIGN_OR_RETURN(std::vector<TextGroup> groups, Groups());
    result_.scores =
        MeasureImportance(dense_, parameters_, groups, options_.importance, CountSamples(groups));
    if (result_.scores.empty()) return Stopped();
    for (const int64_t layer : layers_) {
      const Scores dealt = OfNeurons(result_.scores[layer], dealt_[layer]);
      result_.partition.layers[layer] = Renamed(Split(dealt), dealt_[layer]);
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
        const Neurons& dealt = dealt_[layer];
        const at::Tensor index =
            at::from_blob(const_cast<int64_t*>(dealt.data()), {std::ssize(dealt)}, at::kLong);
        const at::Tensor dealt_pairs =
            pairs[layer - first].index_select(0, index).index_select(1, index);
        result_.partition.layers[layer] =
            Renamed(CoactivationSplit(dealt_pairs.const_data_ptr<float>(), std::ssize(dealt),
                                      options_.num_experts, layer, options_.seed),
                    dealt);
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
      return GroupsByCluster(dataset_, embed_Vd, options_.num_experts, options_.text);
    }
    MOE_ASSIGN_OR_RETURN(std::vector<TextGroup> groups, GroupsByDomain(dataset_, options_.text));
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
  const sampler::Dataset& dataset_;
  const MethodOptions& options_;
  const std::vector<Neurons>& dealt_;  // per layer
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

LayerPartition PartitionLayer(const model::WeightSource& dense, const MethodOptions& options,
                              int64_t layer, const Neurons& dealt) {
  const int64_t count = std::ssize(dealt), d = dense.config().hidden_size;
  switch (options.method) {
    case Method::kIndependentClustering: {
      KMeansOptions kmeans = options.kmeans;
      kmeans.seed = options.seed;
      kmeans.stream = static_cast<uint32_t>(layer);
      std::vector<float> rows_nd = NormalisedRows(dense, layer, options.cluster_rows);
      for (int64_t i = 0; i < count; ++i) {  // ascending, so nothing is overwritten before its turn
        std::copy_n(rows_nd.begin() + dealt[i] * d, d, rows_nd.begin() + i * d);
      }
      rows_nd.resize(count * d);
      const Clustering clustering = BalancedKMeans(rows_nd, d, options.num_experts, kmeans);
      return Renamed(FromLabels(clustering.cluster, options.num_experts), dealt);
    }
    case Method::kPruneRandom:
      return Renamed(OneExpert(PruneAtRandom(count, options.expert_width, layer, options.seed)),
                     dealt);
    default:
      MOE_CHECK(options.method == Method::kIndependentRandom);
      return Renamed(IndependentRandomLayer(layer, count, options.num_experts, options.seed),
                     dealt);
  }
}

absl::StatusOr<ModelPartition> PartitionByText(const artefacts::ModelConfig& dense,
                                               const at::Tensor& parameters,
                                               const sampler::Dataset& dataset,
                                               const MethodOptions& options,
                                               const std::vector<Neurons>& dealt,
                                               const PartitionProgress& progress) {
  MOE_CHECK(NeedsText(options.method) && std::ssize(dealt) == dense.num_layers);
  return Partitioner(dense, parameters, dataset, options, dealt, progress).Run();
}

std::vector<float> NormalisedRows(const model::WeightSource& dense, int64_t layer,
                                  Projection projection) {
  const int64_t width = dense.config().intermediate_size, d = dense.config().hidden_size;
  const model::Parameter& gate_up = dense.layout().Find(fmt::format("layers.{}.gate_up", layer));
  std::vector<float> rows;
  rows.reserve(gate_up.numel);
  AdviseHugePages(rows.data(), gate_up.numel * sizeof(float));
  rows.resize(gate_up.numel);
  dense.ReadFloats(gate_up, rows.data());
  if (projection == Projection::kUp) rows.erase(rows.begin(), rows.begin() + width * d);
  rows.resize(width * d);
  NormaliseRows(rows.data(), width, d);
  return rows;
}

std::map<std::string, at::Tensor> GateAtCentres(const std::vector<float>& rows_Id, int64_t d,
                                                const LayerPartition& partition,
                                                const std::string& gate_network) {
  const int64_t N = std::ssize(partition.experts);
  at::Tensor centres_Nd = at::empty({N, d}, at::kFloat);
  for (int64_t e = 0; e < N; ++e) {
    const Neurons& neurons = partition.experts[e];
    std::vector<double> sum(d);
    for (const int64_t n : neurons) {
      for (int64_t j = 0; j < d; ++j) sum[j] += rows_Id[n * d + j];
    }
    float* centre = centres_Nd.mutable_data_ptr<float>() + e * d;
    for (int64_t j = 0; j < d; ++j) {
      centre[j] = static_cast<float>(sum[j] / static_cast<double>(neurons.size()));
    }
  }
  std::map<std::string, at::Tensor> gate = {{"router.0", centres_Nd}};
  if (gate_network == "mlp") gate["router.2"] = at::eye(N, at::kFloat);
  return gate;
}

}  // namespace moe::construction
