// The construct part of run.json.
#include <cmath>
#include <limits>
#include <utility>

#include "common/status.h"
#include "worker/rank/run_spec.h"
#include "worker/rank/spec_reader.h"

namespace moe::rank {
namespace {

using construction::MethodOptions;

constexpr double kInfinity = std::numeric_limits<double>::infinity();

// One of the values that `names` gives a name.
template <typename T>
T Named(SpecReader& reader, const std::string& key,
        const std::vector<std::pair<std::string, T>>& names) {
  std::vector<std::string> choices;
  for (const auto& [name, value] : names) choices.push_back(name);
  const std::string found = reader.OneOf(key, choices);
  for (const auto& [name, value] : names) {
    if (name == found) return value;
  }
  return names[0].second;  // the reader has failed
}

std::vector<int64_t> ReadLayers(SpecReader& reader, const Json& json) {
  std::vector<int64_t> layers;
  if (!json.contains("layers")) return layers;
  const Json& list = reader.Array("layers");
  if (!reader.status().ok()) return layers;
  for (const Json& layer : list)
    layers.push_back(layer.is_number_integer() ? layer.get<int64_t>() : -1);
  return layers;
}

absl::Status ParseClustering(const Json& json, MethodOptions& method) {
  SpecReader reader(json, "run.json: spec.clustering");
  method.kmeans.metric = Named<construction::Metric>(
      reader, "metric",
      {{"l2", construction::Metric::kL2}, {"cosine", construction::Metric::kCosine}});
  method.cluster_rows = Named<construction::Projection>(
      reader, "projection",
      {{"up", construction::Projection::kUp}, {"gate", construction::Projection::kGate}});
  method.kmeans.restarts = reader.IntFrom("restarts", 1);
  method.kmeans.max_iterations = reader.IntFrom("max_iterations", 1);
  method.kmeans.tolerance = reader.DoubleIn("tolerance", 0, kInfinity);
  return reader.status();
}

const std::vector<std::pair<std::string, construction::Kernel>> kKernels = {
    {"plain", construction::Kernel::kPlain},
    {"l1", construction::Kernel::kL1},
    {"l2", construction::Kernel::kL2}};

absl::Status ParseImportance(const Json& json, MethodOptions& method) {
  SpecReader reader(json, "run.json: spec.importance");
  method.text.samples_per_group = reader.IntFrom("samples_per_group", 1);
  method.text.sequence_length = reader.IntFrom("sequence_length", 2);
  method.group_by_domain = reader.OneOf("groups", {"cluster", "domain"}) == "domain";
  method.importance.projection = Named<construction::Projection>(
      reader, "projection",
      {{"up", construction::Projection::kUp}, {"gate", construction::Projection::kGate}});
  method.importance.kernel = Named(reader, "kernel", kKernels);
  method.importance.accumulate = Named<construction::Accumulate>(
      reader, "accumulate",
      {{"sample", construction::Accumulate::kSample}, {"total", construction::Accumulate::kTotal}});
  method.importance.score =
      Named<construction::ScoreType>(reader, "score",
                                     {{"change", construction::ScoreType::kChange},
                                      {"gradient", construction::ScoreType::kGradient}});
  method.criterion = Named<construction::Criterion>(
      reader, "criterion",
      {{"max", construction::Criterion::kMax}, {"min", construction::Criterion::kMin}});
  return reader.status();
}

absl::Status ParseCoactivation(const Json& json, MethodOptions& method) {
  SpecReader reader(json, "run.json: spec.coactivation");
  method.coactivation_kernel = Named(reader, "kernel", kKernels);
  method.coactivation_threshold = reader.DoubleIn("threshold", 0, kInfinity);
  return reader.status();
}

absl::StatusOr<CalibrationSpec> ParseCalibration(const Json& json, int64_t top_k) {
  SpecReader reader(json, "run.json: spec.calibrate");
  CalibrationSpec spec;
  spec.tokens = reader.IntFrom("tokens", 2);
  spec.shared_experts = reader.IntFrom("shared_experts", 0);
  // Absent where the job names the layers with experts.
  if (json.contains("active_ffn_share")) {
    spec.active_ffn_share = reader.DoubleIn("active_ffn_share", 0, 1);
  }
  spec.compensate = reader.Bool("compensate");
  spec.fit_experts = reader.Bool("fit_experts");
  spec.mean_vector = reader.Bool("mean_vector");
  MOE_RETURN_IF_ERROR(reader.status());
  if (spec.shared_experts >= top_k) {
    return InvalidArgument("run.json: spec.calibrate.shared_experts: {} must be below top_k={}",
                           spec.shared_experts, top_k);
  }
  return spec;
}

absl::StatusOr<GateTrainingSpec> ParseGateTraining(const Json& json, uint64_t seed) {
  using construction::Teacher;
  SpecReader reader(json, "run.json: spec.gate_training");
  GateTrainingSpec spec;
  spec.tokens = reader.IntFrom("tokens", 2);
  spec.options.epochs = reader.IntFrom("epochs", 1);
  spec.options.learning_rate = reader.DoubleIn("learning_rate", 0, kInfinity);
  spec.options.teacher = Named<Teacher>(reader, "teacher",
                                        {{"l1", Teacher::kL1},
                                         {"l2", Teacher::kL2},
                                         {"positive", Teacher::kPositive},
                                         {"plain", Teacher::kPlain}});
  spec.options.seed = seed;
  MOE_RETURN_IF_ERROR(reader.status());
  return spec;
}

}  // namespace

absl::StatusOr<ConstructSpec> ParseConstructSpec(const Json& json) {
  using construction::Method;
  static const std::vector<std::pair<std::string, Method>> kMethods = {
      {"independent-random", Method::kIndependentRandom},
      {"independent-clustering", Method::kIndependentClustering},
      {"independent-importance", Method::kIndependentImportance},
      {"coactivation-graph", Method::kCoactivationGraph},
      {"sharing-inner", Method::kSharingInner},
      {"sharing-inter", Method::kSharingInter},
      {"prune-random", Method::kPruneRandom},
      {"prune-importance", Method::kPruneImportance}};
  SpecReader reader(json, "run.json: spec");
  ConstructSpec spec;
  MethodOptions& method = spec.method;
  method.method = Named(reader, "method", kMethods);
  spec.method_name = reader.String("method");
  method.layers = ReadLayers(reader, json);
  method.num_experts = reader.IntFrom("num_experts", 1);
  method.num_shared_experts = reader.IntFrom("num_shared_experts", 0);
  // Absent where the model's width was not known when the job was accepted.
  method.expert_width = json.contains("expert_width") ? reader.IntFrom("expert_width", 1) : 0;
  method.seed = reader.Seed("seed");
  method.text.seed = method.seed;
  spec.top_k = reader.IntFrom("top_k", 1);
  spec.score_scale_factor = reader.DoubleIn("score_scale_factor", 0, kInfinity);
  spec.gate_network = reader.OneOf("gate_network", {"mlp", "linear"});
  spec.gate = reader.OneOf("gate", {"noisy-top-k", "switch"});
  // Proto3 leaves a zero out.
  if (json.contains("capacity_factor")) {
    spec.capacity_factor = reader.DoubleIn("capacity_factor", 0, kInfinity);
  }
  spec.learn_scale = reader.Bool("learn_scale");
  spec.gate_init = reader.OneOf("gate_init", {"random", "centres", "trained"});
  if (method.method == Method::kSharingInter) {
    method.overlap = reader.Bool("overlap");
    spec.shared_scale_factor = reader.DoubleIn("shared_scale_factor", 0, kInfinity);
  }
  if (construction::IsPruning(method.method)) method.retain = reader.DoubleIn("retain", 0, 1);
  MOE_RETURN_IF_ERROR(reader.status());
  if (method.method == Method::kIndependentClustering) {
    MOE_RETURN_IF_ERROR(ParseClustering(reader.Object("clustering"), method));
  }
  if (construction::NeedsText(method.method)) {
    MOE_RETURN_IF_ERROR(ParseImportance(reader.Object("importance"), method));
  }
  if (method.method == Method::kCoactivationGraph) {
    MOE_RETURN_IF_ERROR(ParseCoactivation(reader.Object("coactivation"), method));
  }
  MOE_RETURN_IF_ERROR(reader.status());
  if (spec.gate_init == "trained") {
    const Json& training = reader.Object("gate_training");
    MOE_RETURN_IF_ERROR(reader.status());
    MOE_ASSIGN_OR_RETURN(spec.gate_training, ParseGateTraining(training, method.seed));
  }
  if (json.contains("calibrate")) {
    MOE_ASSIGN_OR_RETURN(spec.calibrate, ParseCalibration(json.at("calibrate"), spec.top_k));
    if (construction::IsPruning(method.method)) {
      return InvalidArgument("run.json: spec.calibrate: has no meaning with method={}",
                             spec.method_name);
    }
  }
  return spec;
}

}  // namespace moe::rank
