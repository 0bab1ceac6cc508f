#include <algorithm>
#include <map>

#include "common/status.h"
#include "coordinator/spec/kinds.h"

namespace moe::coordinator {
namespace {

// What a method has of its own.
struct MethodTraits {
  bool may_overlap = false;  // experts, so that their widths need not add up to the FFN's
  bool has_shared = false;
  bool reads_text = false;
  bool prunes = false;
};

const std::map<std::string, MethodTraits>& Methods() {
  static const auto& methods = *new std::map<std::string, MethodTraits>{
      {"independent-random", {}},
      {"independent-clustering", {}},
      {"independent-importance", {.reads_text = true}},
      {"coactivation-graph", {.reads_text = true}},
      {"sharing-inner", {.may_overlap = true, .reads_text = true}},
      {"sharing-inter", {.may_overlap = true, .has_shared = true, .reads_text = true}},
      {"prune-random", {.prunes = true}},
      {"prune-importance", {.reads_text = true, .prunes = true}},
  };
  return methods;
}

const std::vector<std::string> kGates = {"noisy-top-k", "switch"};
const std::vector<std::string> kGateNetworks = {"mlp", "linear"};
const std::vector<std::string> kGateInits = {"random", "centres", "trained"};
const std::vector<std::string> kTeachers = {"l1", "l2", "positive", "plain"};
const std::vector<std::string> kMetrics = {"l2", "cosine"};
const std::vector<std::string> kProjections = {"up", "gate"};
const std::vector<std::string> kKernels = {"l1", "l2", "plain"};

constexpr int32_t kMostExperts = 4096;

std::string DivisorsOf(int64_t width) {
  std::vector<int64_t> divisors;
  for (int64_t n = 2; n <= width && divisors.size() < 12; ++n) {
    if (width % n == 0) divisors.push_back(n);
  }
  return fmt::format("{}{}", fmt::join(divisors, ", "), divisors.size() == 12 ? ", ..." : "");
}

// Layers that may stay dense by default: as many in proportion as lets SmolLM2 start near its dense
// model.
constexpr double kDefaultDenseLayers = 0.1;
constexpr int32_t kDefaultCalibrationTokens = 8192;

void CheckCalibration(Checker& check, const Inputs& inputs, const ThingFacts& model,
                      const MethodTraits& method, v1::ConstructSpec& spec) {
  v1::Calibration& calibrate = *spec.mutable_calibrate();
  const ThingFacts dataset = inputs.LookAtDataset(check, "calibrate.dataset", calibrate.dataset());
  CheckVocabulary(check, "calibrate.dataset", model, dataset);
  if (!calibrate.has_tokens()) calibrate.set_tokens(kDefaultCalibrationTokens);
  if (!calibrate.has_shared_experts()) {
    // The gate learns from the scores of at least two.
    calibrate.set_shared_experts(method.has_shared ? 0
                                                   : std::max(spec.top_k() / 2, spec.top_k() - 2));
  }
  if (!calibrate.has_compensate()) calibrate.set_compensate(true);
  if (!calibrate.has_fit_experts()) calibrate.set_fit_experts(false);
  if (!calibrate.has_mean_vector()) calibrate.set_mean_vector(false);
  check.Range<int32_t>("calibrate.tokens", calibrate.tokens(), 1024, 1 << 20);
  if (method.has_shared && calibrate.shared_experts() > 0) {
    check.Fail(
        "calibrate.shared_experts={} and method='{}' has num_shared_experts={} already; "
        "leave it out",
        calibrate.shared_experts(), spec.method(), spec.num_shared_experts());
  }
  check.Range<int32_t>("calibrate.shared_experts", calibrate.shared_experts(), 0, spec.top_k() - 1);

  // Of the FFN of a layer with experts, what a token meets.
  const int64_t width = model.model.has_value() ? model.model->intermediate_size : 0;
  const double experts_met = spec.top_k() + spec.num_shared_experts();
  const double mixture_share =
      width > 0 && spec.has_expert_width()
          ? std::min(1.0, experts_met * spec.expert_width() / static_cast<double>(width))
          : experts_met / (spec.num_experts() + spec.num_shared_experts());
  if (spec.layers_size() > 0) {
    if (calibrate.has_active_ffn_share()) {
      check.Fail(
          "calibrate.active_ffn_share={} chooses the layers that stay dense, and layers=[{}] "
          "says which do; give one of them",
          calibrate.active_ffn_share(), fmt::join(spec.layers(), ", "));
    }
    return;
  }
  if (!calibrate.has_active_ffn_share()) {
    calibrate.set_active_ffn_share(mixture_share + kDefaultDenseLayers * (1 - mixture_share));
  }
  check.Range<double>("calibrate.active_ffn_share", calibrate.active_ffn_share(), mixture_share, 1);
}

void Default(std::string* field, const char* value) {
  if (field->empty()) *field = value;
}

void CheckClustering(Checker& check, v1::ConstructSpec& spec) {
  v1::Clustering& clustering = *spec.mutable_clustering();
  Default(clustering.mutable_metric(), "l2");
  Default(clustering.mutable_projection(), "up");
  if (!clustering.has_restarts()) clustering.set_restarts(10);
  if (!clustering.has_max_iterations()) clustering.set_max_iterations(500);
  if (!clustering.has_tolerance()) clustering.set_tolerance(1e-4);
  check.OneOf("clustering.metric", clustering.metric(), kMetrics);
  check.OneOf("clustering.projection", clustering.projection(), kProjections);
  check.Range<int32_t>("clustering.restarts", clustering.restarts(), 1, 1000);
  check.Range<int32_t>("clustering.max_iterations", clustering.max_iterations(), 1, 100000);
  check.Minimum<double>("clustering.tolerance", clustering.tolerance(), 0.0);
}

void CheckImportance(Checker& check, const Inputs& inputs, const ThingFacts& model,
                     v1::ConstructSpec& spec) {
  if (!spec.importance().has_dataset()) {
    check.Fail(
        "method='{}' reads text and importance.dataset is missing; give a dataset that a "
        "prepare job made with the model's tokenizer",
        spec.method());
    return;
  }
  v1::Importance& importance = *spec.mutable_importance();
  if (!importance.has_samples_per_group()) importance.set_samples_per_group(16);
  if (!importance.has_sequence_length()) importance.set_sequence_length(512);
  Default(importance.mutable_groups(), "cluster");
  Default(importance.mutable_projection(), "up");
  Default(importance.mutable_kernel(), "l1");
  Default(importance.mutable_accumulate(), "sample");
  Default(importance.mutable_score(), "change");
  Default(importance.mutable_criterion(), "max");
  const ThingFacts dataset =
      inputs.LookAtDataset(check, "importance.dataset", importance.dataset());
  CheckVocabulary(check, "model", model, dataset);
  check.Range<int32_t>("importance.samples_per_group", importance.samples_per_group(), 1, 1 << 20);
  check.Minimum<int32_t>("importance.sequence_length", importance.sequence_length(), 2);
  CheckSequenceLength(check, "model", importance.sequence_length(), model);
  check.OneOf("importance.groups", importance.groups(), {"cluster", "domain"});
  check.OneOf("importance.projection", importance.projection(), kProjections);
  check.OneOf("importance.kernel", importance.kernel(), kKernels);
  check.OneOf("importance.accumulate", importance.accumulate(), {"sample", "total"});
  check.OneOf("importance.score", importance.score(), {"change", "gradient"});
  check.OneOf("importance.criterion", importance.criterion(), {"max", "min"});
  const bool group_per_expert =
      spec.method() == "independent-importance" || Methods().at(spec.method()).may_overlap;
  const int32_t domains = static_cast<int32_t>(dataset.domains.size());
  if (group_per_expert && importance.groups() == "domain" && domains > 0 &&
      domains != spec.num_experts()) {
    check.Fail(
        "importance.groups=domain makes one expert per domain: the dataset has {} domains "
        "and num_experts={}; use groups=cluster or num_experts={}",
        domains, spec.num_experts(), domains);
  }
}

void CheckCoactivation(Checker& check, v1::ConstructSpec& spec) {
  v1::Coactivation& coactivation = *spec.mutable_coactivation();
  Default(coactivation.mutable_kernel(), "l1");
  if (!coactivation.has_threshold()) coactivation.set_threshold(1);
  check.OneOf("coactivation.kernel", coactivation.kernel(), kKernels);
  check.Positive("coactivation.threshold", coactivation.threshold());
}

void CheckGateTraining(Checker& check, const Inputs& inputs, const ThingFacts& model,
                       v1::ConstructSpec& spec) {
  if (!spec.gate_training().has_dataset()) {
    check.Fail(
        "gate_init=trained reads text and gate_training.dataset is missing; give a dataset that a "
        "prepare job made with the model's tokenizer");
    return;
  }
  v1::GateTraining& training = *spec.mutable_gate_training();
  const ThingFacts dataset =
      inputs.LookAtDataset(check, "gate_training.dataset", training.dataset());
  CheckVocabulary(check, "gate_training.dataset", model, dataset);
  if (!training.has_tokens()) training.set_tokens(kDefaultCalibrationTokens);
  if (!training.has_epochs()) training.set_epochs(40);
  if (!training.has_learning_rate()) training.set_learning_rate(0.01);
  Default(training.mutable_teacher(), "l1");
  check.Range<int32_t>("gate_training.tokens", training.tokens(), 1024, 1 << 20);
  check.Range<int32_t>("gate_training.epochs", training.epochs(), 1, 100000);
  check.Positive("gate_training.learning_rate", training.learning_rate());
  check.OneOf("gate_training.teacher", training.teacher(), kTeachers);
}

// What only some methods have is refused with the others, not ignored.
void CheckForeignFields(Checker& check, const MethodTraits& method, const v1::ConstructSpec& spec) {
  const auto refuse = [&](bool is_given, bool belongs, const char* field, const char* methods) {
    if (!is_given || belongs) return;
    check.Fail("{} has no meaning with method='{}', only with {}; leave it out", field,
               spec.method(), methods);
  };
  refuse(spec.has_calibrate(), !method.prunes, "calibrate", "methods that make experts");
  refuse(spec.has_clustering(), spec.method() == "independent-clustering", "clustering",
         "independent-clustering");
  refuse(spec.has_importance(), method.reads_text, "importance",
         "independent-importance, coactivation-graph, sharing-inner, sharing-inter and "
         "prune-importance");
  refuse(spec.has_coactivation(), spec.method() == "coactivation-graph", "coactivation",
         "coactivation-graph");
  refuse(spec.num_shared_experts() > 0, method.has_shared, "num_shared_experts", "sharing-inter");
  refuse(spec.has_overlap(), method.has_shared, "overlap", "sharing-inter");
  refuse(spec.has_shared_scale_factor(), method.has_shared, "shared_scale_factor", "sharing-inter");
  refuse(spec.has_gate_training(), spec.gate_init() == "trained", "gate_training",
         "gate_init=trained");
  refuse(spec.gate_init() != "" && spec.gate_init() != "random", !method.prunes, "gate_init",
         "methods that make experts");
  refuse(spec.gate() == "switch", !method.prunes, "gate", "methods that make experts");
  refuse(spec.has_retain(), method.prunes, "retain", "prune-random and prune-importance");
  refuse(spec.layers_size() > 0, !method.prunes, "layers",
         "methods that make experts: a pruned model has one FFN width");
  refuse(spec.has_expert_width(), !method.prunes, "expert_width",
         "methods that make experts: give retain");
}

// What calibration finds by itself is refused, not ignored.
void CheckNothingFitted(Checker& check, const v1::ConstructSpec& spec) {
  const auto refuse = [&](bool is_given, const char* field) {
    if (is_given)
      check.Fail("{} has no meaning with calibrate, which fits it; leave it out", field);
  };
  refuse(spec.has_score_scale_factor(), "score_scale_factor");
  refuse(spec.has_shared_scale_factor(), "shared_scale_factor");
  refuse(spec.gate_init() != "random", "gate_init");
  if (spec.gate() == "switch") {
    check.Fail(
        "gate=switch has no meaning with calibrate, which weighs experts by softmax; use "
        "noisy-top-k");
  }
}

// The width of an expert, and whether all experts fit the FFN.
void CheckWidths(Checker& check, const MethodTraits& method, int64_t width,
                 v1::ConstructSpec& spec) {
  const int64_t shared = spec.num_shared_experts(), all = spec.num_experts() + shared;
  const std::string count =
      shared == 0 ? fmt::format("num_experts={}", all)
                  : fmt::format("num_experts={} + num_shared_experts={}", all - shared, shared);
  if (!spec.has_expert_width()) {
    if (width % all != 0) {
      check.Fail("{} does not divide the FFN width {}; use one of {}{}", count, width,
                 DivisorsOf(width), method.may_overlap ? ", or give expert_width" : "");
      return;
    }
    spec.set_expert_width(static_cast<int32_t>(width / all));
  }
  const int64_t each = spec.expert_width();
  check.Range<int32_t>("expert_width", spec.expert_width(), 1, static_cast<int32_t>(width));
  const bool may_overlap = method.may_overlap && (!method.has_shared || spec.overlap());
  if (!may_overlap && all * each != width) {
    check.Fail(
        "{} of expert_width={} hold {} neurons and the FFN has {}; leave expert_width out, "
        "or use a method whose experts may overlap",
        count, each, all * each, width);
  }
  if (may_overlap && (shared + 1) * each > width) {
    check.Fail(
        "num_shared_experts={} and one more of expert_width={} need {} neurons and the FFN "
        "has {}; use an expert_width of at most {}",
        shared, each, (shared + 1) * each, width, width / (shared + 1));
  }
}

void CheckLayers(Checker& check, const v1::ConstructSpec& spec, int64_t num_layers) {
  int32_t previous = -1;
  for (const int32_t layer : spec.layers()) {
    if (layer <= previous) {
      check.Fail("layers=[{}] must ascend from 0; {} follows {}", fmt::join(spec.layers(), ", "),
                 layer, previous);
    }
    if (num_layers > 0 && layer >= num_layers) {
      check.Fail("layers=[{}]: the model has {} layers; use 0 to {}",
                 fmt::join(spec.layers(), ", "), num_layers, num_layers - 1);
    }
    previous = layer;
  }
}

}  // namespace

void CheckConstruct(Checker& check, const Inputs& inputs, v1::ConstructSpec& spec,
                    ThingFacts& output) {
  const ThingFacts model = inputs.LookAtModel(check, "model", spec.model());
  std::vector<std::string> names;
  for (const auto& [name, traits] : Methods()) names.push_back(name);
  check.OneOf("method", spec.method(), names);
  if (!check.status().ok()) return;
  const MethodTraits& method = Methods().at(spec.method());
  CheckForeignFields(check, method, spec);

  if (!spec.has_num_shared_experts()) spec.set_num_shared_experts(method.has_shared ? 2 : 0);
  if (!spec.has_num_experts()) {
    spec.set_num_experts(method.prunes ? 1 : std::max(1, 16 - spec.num_shared_experts()));
  }
  Default(spec.mutable_gate(), "noisy-top-k");
  const bool is_switch = spec.gate() == "switch";
  if (!spec.has_top_k()) spec.set_top_k(is_switch ? 1 : std::min(4, spec.num_experts()));
  if (method.has_shared && !spec.has_overlap()) spec.set_overlap(true);
  Default(spec.mutable_gate_network(), "mlp");
  Default(spec.mutable_gate_init(), "random");
  if (!spec.has_seed()) spec.set_seed(kDefaultSeed);
  if (method.prunes && !spec.has_retain()) spec.set_retain(0.25);

  check.Range<int32_t>("num_experts", spec.num_experts(), 1, method.prunes ? 1 : kMostExperts);
  check.Range<int32_t>("num_shared_experts", spec.num_shared_experts(), method.has_shared ? 1 : 0,
                       kMostExperts);
  check.Minimum<int32_t>("top_k", spec.top_k(), 1);
  if (spec.top_k() > spec.num_experts()) {
    check.Fail("top_k={} is above num_experts={}; use 1 to {}", spec.top_k(), spec.num_experts(),
               spec.num_experts());
  }
  if (method.prunes) {
    check.Positive("retain", spec.retain());
    check.Range<double>("retain", spec.retain(), 0.0, 1.0);
  }
  check.OneOf("gate", spec.gate(), kGates);
  if (is_switch && spec.top_k() != 1) {
    check.Fail("top_k={} and gate=switch sends a token to one expert; use top_k=1", spec.top_k());
  }
  if (!is_switch && spec.capacity_factor() != 0) {
    check.Fail(
        "capacity_factor={} has no meaning with gate='{}', which sends every token on; leave "
        "it out",
        spec.capacity_factor(), spec.gate());
  }
  check.Minimum<double>("capacity_factor", spec.capacity_factor(), 0.0);
  CheckLayers(check, spec, model.model.has_value() ? model.model->num_layers : 0);
  if (!check.status().ok()) return;
  if (model.model.has_value()) {
    if (model.model->num_experts > 0) {
      check.Fail("model is a mixture of {} experts already; give a dense model",
                 model.model->num_experts);
    }
    const int64_t width = model.model->intermediate_size;
    if (width > 0 && !method.prunes) CheckWidths(check, method, width, spec);
  }
  if (method.reads_text) CheckImportance(check, inputs, model, spec);
  if (spec.method() == "independent-clustering") CheckClustering(check, spec);
  if (spec.method() == "coactivation-graph") CheckCoactivation(check, spec);
  if (!check.status().ok()) return;

  if (spec.gate_init() == "trained") CheckGateTraining(check, inputs, model, spec);
  if (spec.has_calibrate()) CheckNothingFitted(check, spec);
  if (!spec.has_score_scale_factor()) {
    spec.set_score_scale_factor(static_cast<double>(spec.num_experts()) / spec.top_k());
  }
  check.Positive("score_scale_factor", spec.score_scale_factor());
  if (method.has_shared && !spec.has_shared_scale_factor()) {
    spec.set_shared_scale_factor(1.0 / spec.num_shared_experts());
  }
  if (method.has_shared) check.Positive("shared_scale_factor", spec.shared_scale_factor());
  check.OneOf("gate_network", spec.gate_network(), kGateNetworks);
  check.OneOf("gate_init", spec.gate_init(), kGateInits);
  check.Minimum<int64_t>("seed", spec.seed(), 0);
  if (!spec.has_learn_scale()) spec.set_learn_scale(false);
  if (spec.has_calibrate()) CheckCalibration(check, inputs, model, method, spec);
  output.model = model.model;
  if (!output.model.has_value()) return;
  // Calibration makes some of the experts shared; the sharing methods have theirs beside them.
  const int32_t taken = spec.calibrate().shared_experts();
  output.model->num_experts = method.prunes ? 0 : spec.num_experts() - taken;
  if (!output.model->shape.has_value() || method.prunes) return;
  artefacts::MoeConfig& moe = output.model->shape->moe;
  moe.num_experts = output.model->num_experts;
  moe.top_k = spec.top_k() - taken;
  moe.expert_width = spec.has_expert_width()
                         ? spec.expert_width()
                         : output.model->shape->intermediate_size / spec.num_experts();
  moe.shared_width = (taken + spec.num_shared_experts()) * moe.expert_width;
  moe.gate_network = spec.gate_network();
  moe.gate = spec.gate();
}

}  // namespace moe::coordinator
