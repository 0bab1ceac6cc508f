#include "coordinator/job_spec.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <functional>
#include <limits>
#include <set>
#include <utility>

#include "common/nearest.h"
#include "common/status.h"

namespace moe::coordinator {
namespace {

constexpr int kMaxJobs = 1000;
constexpr size_t kMaxNameLength = 63;
constexpr int kMaxLabels = 32;
constexpr int32_t kMaxPriority = 1000;
constexpr int32_t kMaxSlots = 4096;
constexpr int64_t kDefaultSeed = 1227;

const std::vector<std::string> kMethods = {"independent-random"};
const std::vector<std::string> kGateNetworks = {"mlp", "linear"};
const std::vector<std::string> kComputeDtypes = {"bf16", "fp32"};
const std::vector<std::string> kExportDtypes = {"fp32", "bf16", "fp16"};
const std::vector<std::string> kLoadEstimators = {"correct", "compat"};
const std::vector<std::string> kMixturePresets = {"llama1", "sheared", "uniform"};

bool IsName(const std::string& name) {
  if (name.empty() || name.size() > kMaxNameLength) return false;
  return std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-';
  });
}

std::string DivisorsOf(int64_t width) {
  std::vector<int64_t> divisors;
  for (int64_t n = 2; n <= width && divisors.size() < 12; ++n) {
    if (width % n == 0) divisors.push_back(n);
  }
  return fmt::format("{}{}", fmt::join(divisors, ", "), divisors.size() == 12 ? ", ..." : "");
}

std::string Suggestion(const std::string& word, const std::vector<std::string>& known) {
  const std::string nearest = Nearest(word, known);
  return nearest.empty() ? "" : fmt::format("; did you mean '{}'?", nearest);
}

std::string Plain(double value) { return fmt::format("{}", value); }
std::string Plain(int64_t value) { return fmt::format("{}", value); }
std::string Plain(int32_t value) { return fmt::format("{}", value); }

// Collects the first problem of one job, so that a kind's rules read as a list.
class Checker {
 public:
  explicit Checker(std::string job) : job_(std::move(job)) {}

  template <typename... Args>
  void Fail(fmt::format_string<Args...> format, Args&&... args) {
    if (!status_.ok()) return;
    status_ =
        InvalidArgument("job '{}': {}", job_, fmt::format(format, std::forward<Args>(args)...));
  }
  void Fail(const absl::Status& status, const std::string& field) {
    if (!status.ok()) Fail("{}: {}", field, Message(status));
  }

  template <typename T>
  void Range(const char* field, T value, T low, T high) {
    // Written so that NaN is out of every range.
    if (!(value >= low && value <= high)) {
      Fail("{}={} is out of range; use {} to {}", field, Plain(value), Plain(low), Plain(high));
    }
  }
  template <typename T>
  void Minimum(const char* field, T value, T low) {
    if (!(value >= low) || !std::isfinite(static_cast<double>(value))) {
      Fail("{}={} is out of range; use {} or more", field, Plain(value), Plain(low));
    }
  }
  void Positive(const char* field, double value) {
    if (!(value > 0) || !std::isfinite(value)) {
      Fail("{}={} is out of range; use a finite number above 0", field, Plain(value));
    }
  }
  void OneOf(const char* field, const std::string& value, const std::vector<std::string>& known) {
    if (std::find(known.begin(), known.end(), value) != known.end()) return;
    Fail("{}='{}' is not known; use {}{}", field, value, fmt::join(known, ", "),
         Suggestion(value, known));
  }
  void Name(const char* field, const std::string& value) {
    if (!IsName(value)) {
      Fail("{}='{}' is not a name; use 1 to {} lower-case letters, digits and dashes", field, value,
           kMaxNameLength);
    }
  }

  const absl::Status& status() const { return status_; }

 private:
  const std::string job_;
  absl::Status status_;
};

// What is known of a job's input or output before anything runs.
struct ThingFacts {
  std::optional<v1::ArtefactKind> kind;  // absent for a path
  std::optional<ModelFacts> model;
  std::optional<int64_t> vocab_size;  // of a dataset
  std::vector<std::string> domains;   // of a dataset; empty where not known
};

double NumberIn(const google::protobuf::Struct& metadata, const std::string& key) {
  const auto it = metadata.fields().find(key);
  return it == metadata.fields().end() ? 0 : it->second.number_value();
}

ThingFacts FactsOf(const v1::Artefact& artefact) {
  ThingFacts facts;
  facts.kind = artefact.kind();
  facts.vocab_size = VocabularySize(artefact);
  const google::protobuf::Struct& metadata = artefact.metadata();
  if (artefact.kind() == v1::ARTEFACT_KIND_DATASET) {
    const auto domains = metadata.fields().find("domains");
    if (domains != metadata.fields().end()) {
      for (const auto& entry : domains->second.list_value().values()) {
        const auto& fields = entry.struct_value().fields();
        const auto name = fields.find("name");
        if (name != fields.end()) facts.domains.push_back(name->second.string_value());
      }
    }
  } else if (facts.vocab_size.has_value()) {
    ModelFacts model;
    model.vocab_size = *facts.vocab_size;
    model.intermediate_size = static_cast<int64_t>(NumberIn(metadata, "intermediate_size"));
    model.context_length = static_cast<int64_t>(NumberIn(metadata, "max_position_embeddings"));
    model.num_experts = static_cast<int64_t>(NumberIn(metadata, "num_experts"));
    facts.model = model;
  }
  return facts;
}

class PipelineChecker {
 public:
  PipelineChecker(const std::vector<v1::JobSpec>& jobs, const SpecFacts& outside)
      : outside_(outside) {
    for (const v1::JobSpec& spec : jobs) jobs_.push_back({spec, {}});
    outputs_.resize(jobs.size());
  }

  absl::StatusOr<std::vector<CompleteJob>> Run() {
    if (jobs_.empty()) return InvalidArgument("the pipeline has no jobs; give at least one");
    if (jobs_.size() > kMaxJobs) {
      return InvalidArgument("the pipeline has {} jobs; the limit is {}; split it", jobs_.size(),
                             kMaxJobs);
    }
    for (CompleteJob& job : jobs_) MOE_RETURN_IF_ERROR(CheckCommon(job.spec));
    MOE_RETURN_IF_ERROR(IndexNames());
    for (size_t i = 0; i < jobs_.size(); ++i) MOE_RETURN_IF_ERROR(FindNeeds(static_cast<int>(i)));
    MOE_ASSIGN_OR_RETURN(const std::vector<int> order, Order());
    for (const int index : order) MOE_RETURN_IF_ERROR(CheckKind(index));
    return std::move(jobs_);
  }

 private:
  absl::Status CheckCommon(v1::JobSpec& spec) {
    Checker check(spec.name());
    check.Name("name", spec.name());
    check.Range<int32_t>("priority", spec.priority(), -kMaxPriority, kMaxPriority);
    if (spec.kind_case() == v1::JobSpec::KIND_NOT_SET) {
      check.Fail("has no kind; give one of prepare, construct, train, evaluate, export");
      return check.status();
    }
    if (spec.labels_size() > kMaxLabels) {
      check.Fail("has {} labels; the limit is {}", spec.labels_size(), kMaxLabels);
    }
    for (const auto& [key, value] : spec.labels()) {
      if (key.empty() || key.size() > kMaxNameLength || value.size() > 255) {
        check.Fail(
            "labels.{} is too long or empty; use keys of 1 to {} and values of up to 255 "
            "bytes",
            key, kMaxNameLength);
      }
    }
    v1::Resources& resources = *spec.mutable_resources();
    if (resources.slots() == 0) resources.set_slots(1);
    check.Range<int32_t>("resources.slots", resources.slots(), 1, kMaxSlots);
    if (!spec.has_train() && resources.slots() > 1) {
      check.Fail("resources.slots={} but only train jobs run on more than one slot; use 1",
                 resources.slots());
    }
    if (!spec.has_max_infrastructure_retries()) spec.set_max_infrastructure_retries(10);
    check.Range<int32_t>("max_infrastructure_retries", spec.max_infrastructure_retries(), 0, 1000);
    SetDefaultOutput(spec);
    check.Name("output", OutputName(spec));
    return check.status();
  }

  static void SetDefaultOutput(v1::JobSpec& spec) {
    const auto fill = [&](auto& kind) {
      if (kind.output().empty()) kind.set_output(spec.name());
    };
    switch (spec.kind_case()) {
      case v1::JobSpec::kPrepare:
        return fill(*spec.mutable_prepare());
      case v1::JobSpec::kConstruct:
        return fill(*spec.mutable_construct());
      case v1::JobSpec::kTrain:
        return fill(*spec.mutable_train());
      case v1::JobSpec::kEvaluate:
        return fill(*spec.mutable_evaluate());
      case v1::JobSpec::kExport:
        return fill(*spec.mutable_export_());
      case v1::JobSpec::KIND_NOT_SET:
        return;
    }
  }

  absl::Status IndexNames() {
    for (size_t i = 0; i < jobs_.size(); ++i) {
      const v1::JobSpec& spec = jobs_[i].spec;
      if (!by_name_.emplace(spec.name(), static_cast<int>(i)).second) {
        return InvalidArgument("job '{}': name='{}' is used twice in the pipeline; rename one",
                               spec.name(), spec.name());
      }
      names_.push_back(spec.name());
      const auto [it, added] = by_output_.emplace(OutputName(spec), static_cast<int>(i));
      if (!added) {
        return InvalidArgument("job '{}': output='{}' is also the output of job '{}'; rename one",
                               spec.name(), OutputName(spec), jobs_[it->second].spec.name());
      }
    }
    return absl::OkStatus();
  }

  // The job of this pipeline that makes `reference`; nullopt for the catalogue.
  std::optional<int> MakerOf(int index, const std::string& reference) const {
    const auto it = by_output_.find(reference);
    if (it == by_output_.end() || it->second == index) return std::nullopt;
    return it->second;
  }

  absl::Status FindNeeds(int index) {
    CompleteJob& job = jobs_[static_cast<size_t>(index)];
    Checker check(job.spec.name());
    std::set<int> needs;
    for (const std::string& need : job.spec.needs()) {
      const auto it = by_name_.find(need);
      if (it == by_name_.end()) {
        check.Fail("needs '{}', which is not a job of this pipeline{}", need,
                   Suggestion(need, names_));
        return check.status();
      }
      needs.insert(it->second);
    }
    for (const auto& [field, input] : InputsOf(job.spec)) {
      if (!input.has_artefact()) continue;
      if (const auto maker = MakerOf(index, input.artefact())) needs.insert(*maker);
    }
    job.needs.assign(needs.begin(), needs.end());
    job.spec.clear_needs();
    for (const int need : job.needs) {
      job.spec.add_needs(jobs_[static_cast<size_t>(need)].spec.name());
    }
    return absl::OkStatus();
  }

  // The jobs in an order in which needs come first; INVALID_ARGUMENT shows a cycle.
  absl::StatusOr<std::vector<int>> Order() const {
    enum class Mark { kNew, kOpen, kDone };
    std::vector<Mark> marks(jobs_.size(), Mark::kNew);
    std::vector<int> order;
    std::vector<int> path;
    absl::Status problem;
    const std::function<void(int)> visit = [&](int index) {
      if (!problem.ok() || marks[static_cast<size_t>(index)] == Mark::kDone) return;
      path.push_back(index);
      if (marks[static_cast<size_t>(index)] == Mark::kOpen) {
        std::vector<std::string> cycle;
        for (auto it = std::find(path.begin(), path.end(), index); it != path.end(); ++it) {
          cycle.push_back(jobs_[static_cast<size_t>(*it)].spec.name());
        }
        problem = InvalidArgument("job '{}': needs itself: {}; remove one of these needs",
                                  cycle.front(), fmt::join(cycle, " -> "));
        return;
      }
      marks[static_cast<size_t>(index)] = Mark::kOpen;
      for (const int need : jobs_[static_cast<size_t>(index)].needs) visit(need);
      marks[static_cast<size_t>(index)] = Mark::kDone;
      path.pop_back();
      order.push_back(index);
    };
    for (size_t i = 0; i < jobs_.size(); ++i) visit(static_cast<int>(i));
    if (!problem.ok()) return problem;
    return order;
  }

  // What is known of an input; checks that it exists and is of one of `kinds`.
  ThingFacts Look(Checker& check, int index, const std::string& field, const v1::InputRef& input,
                  const std::vector<v1::ArtefactKind>& kinds, bool is_model) {
    ThingFacts facts;
    switch (input.source_case()) {
      case v1::InputRef::kPath: {
        if (input.path().empty() || input.path()[0] != '/') {
          check.Fail("{}='{}' is not an absolute path; workers run in folders of their own", field,
                     input.path());
          return facts;
        }
        bool is_empty = false;
        check.Fail(outside_.CheckReadable(input.path(), &is_empty), field);
        if (is_empty) check.Fail("{}={} is empty", field, input.path());
        if (is_model && check.status().ok()) {
          const absl::StatusOr<ModelFacts> model = outside_.ReadModel(input.path());
          check.Fail(model.status(), field);
          if (model.ok()) facts.model = *model;
        }
        return facts;
      }
      case v1::InputRef::kArtefact: {
        if (const auto maker = MakerOf(index, input.artefact())) {
          facts = outputs_[static_cast<size_t>(*maker)];
        } else if (const v1::Artefact* artefact = outside_.FindArtefact(input.artefact())) {
          facts = FactsOf(*artefact);
        } else {
          std::vector<std::string> outputs;
          for (const auto& [output, maker] : by_output_) outputs.push_back(output);
          check.Fail(
              "{}='{}' is neither an output of this pipeline nor in the catalogue; list what "
              "is there with: moectl artefact list{}",
              field, input.artefact(), Suggestion(input.artefact(), outputs));
          return facts;
        }
        if (std::find(kinds.begin(), kinds.end(), *facts.kind) == kinds.end()) {
          std::vector<std::string> names;
          for (const v1::ArtefactKind kind : kinds) names.push_back(KindName(kind));
          check.Fail("{}='{}' is a {}; give a {}", field, input.artefact(), KindName(*facts.kind),
                     fmt::join(names, " or a "));
        }
        return facts;
      }
      case v1::InputRef::SOURCE_NOT_SET:
        check.Fail("{} is missing; give a path or an artefact", field);
        return facts;
    }
    return facts;
  }

  absl::Status CheckKind(int index) {
    v1::JobSpec& spec = jobs_[static_cast<size_t>(index)].spec;
    ThingFacts& output = outputs_[static_cast<size_t>(index)];
    output.kind = OutputKind(spec);
    Checker check(spec.name());
    switch (spec.kind_case()) {
      case v1::JobSpec::kPrepare:
        CheckPrepare(check, index, *spec.mutable_prepare(), output);
        break;
      case v1::JobSpec::kConstruct:
        CheckConstruct(check, index, *spec.mutable_construct(), output);
        break;
      case v1::JobSpec::kTrain:
        CheckTrain(check, index, spec.resources().slots(), *spec.mutable_train(), output);
        break;
      case v1::JobSpec::kEvaluate:
        CheckEvaluate(check, index, *spec.mutable_evaluate());
        break;
      case v1::JobSpec::kExport:
        CheckExport(check, index, *spec.mutable_export_(), output);
        break;
      case v1::JobSpec::KIND_NOT_SET:
        break;
    }
    return check.status();
  }

  void CheckPrepare(Checker& check, int index, v1::PrepareSpec& spec, ThingFacts& output) {
    const ThingFacts tokenizer =
        Look(check, index, "tokenizer", spec.tokenizer(),
             {v1::ARTEFACT_KIND_MODEL, v1::ARTEFACT_KIND_CHECKPOINT, v1::ARTEFACT_KIND_DATASET},
             /*is_model=*/outside_.HoldsModel(spec.tokenizer().path()));
    if (tokenizer.model.has_value()) output.vocab_size = tokenizer.model->vocab_size;
    if (tokenizer.vocab_size.has_value()) output.vocab_size = tokenizer.vocab_size;
    if (spec.domains().empty()) check.Fail("domains is empty; give at least one domain");
    std::set<std::string> names;
    for (const v1::DomainInput& domain : spec.domains()) {
      check.Name("domains.name", domain.name());
      if (!names.insert(domain.name()).second) {
        check.Fail("domain '{}' is given twice; join their paths", domain.name());
      }
      output.domains.push_back(domain.name());
      if (domain.paths().empty()) {
        check.Fail("domain '{}' has no paths; give a file or a folder", domain.name());
      }
      bool all_empty = true;
      for (const std::string& path : domain.paths()) {
        if (path.empty() || path[0] != '/') {
          check.Fail("domain '{}': paths='{}' is not an absolute path", domain.name(), path);
          break;
        }
        bool is_empty = false;
        check.Fail(outside_.CheckReadable(path, &is_empty),
                   fmt::format("domain '{}'", domain.name()));
        all_empty = all_empty && is_empty;
      }
      if (all_empty && check.status().ok()) {
        check.Fail("domain '{}' is empty: {} holds no text; give other paths or leave it out",
                   domain.name(), fmt::join(domain.paths(), ", "));
      }
    }
    if (!spec.has_heldout_fraction()) spec.set_heldout_fraction(0.05);
    check.Range("heldout_fraction", spec.heldout_fraction(), 0.0, 0.5);
    check.Minimum<int64_t>("max_tokens_per_domain", spec.max_tokens_per_domain(), 0);
  }

  void CheckConstruct(Checker& check, int index, v1::ConstructSpec& spec, ThingFacts& output) {
    const ThingFacts model =
        Look(check, index, "model", spec.model(),
             {v1::ARTEFACT_KIND_MODEL, v1::ARTEFACT_KIND_CHECKPOINT}, /*is_model=*/true);
    check.OneOf("method", spec.method(), kMethods);
    if (!spec.has_num_experts()) spec.set_num_experts(16);
    if (!spec.has_top_k()) spec.set_top_k(4);
    if (spec.gate_network().empty()) spec.set_gate_network("mlp");
    if (!spec.has_seed()) spec.set_seed(kDefaultSeed);
    check.Range<int32_t>("num_experts", spec.num_experts(), 1, 4096);
    check.Minimum<int32_t>("top_k", spec.top_k(), 1);
    if (spec.top_k() > spec.num_experts()) {
      check.Fail("top_k={} is above num_experts={}; use 1 to {}", spec.top_k(), spec.num_experts(),
                 spec.num_experts());
    }
    if (model.model.has_value()) {
      if (model.model->num_experts > 0) {
        check.Fail("model is a mixture of {} experts already; give a dense model",
                   model.model->num_experts);
      }
      const int64_t width = model.model->intermediate_size;
      if (width > 0 && spec.num_experts() > 0 && width % spec.num_experts() != 0) {
        check.Fail("num_experts={} does not divide the FFN width {}; use one of {}",
                   spec.num_experts(), width, DivisorsOf(width));
      }
    }
    if (!check.status().ok()) return;
    if (!spec.has_score_scale_factor()) {
      spec.set_score_scale_factor(static_cast<double>(spec.num_experts()) / spec.top_k());
    }
    check.Positive("score_scale_factor", spec.score_scale_factor());
    check.OneOf("gate_network", spec.gate_network(), kGateNetworks);
    check.Minimum<int64_t>("seed", spec.seed(), 0);
    output.model = model.model;
    if (output.model.has_value()) output.model->num_experts = spec.num_experts();
  }

  static void CheckOptimizer(Checker& check, v1::Optimizer& spec) {
    if (!spec.has_learning_rate()) spec.set_learning_rate(2e-4);
    if (!spec.has_final_learning_rate_ratio()) spec.set_final_learning_rate_ratio(0.1);
    if (!spec.has_warmup_steps()) spec.set_warmup_steps(100);
    if (!spec.has_beta1()) spec.set_beta1(0.9);
    if (!spec.has_beta2()) spec.set_beta2(0.95);
    if (!spec.has_epsilon()) spec.set_epsilon(1e-8);
    if (!spec.has_weight_decay()) spec.set_weight_decay(0.1);
    if (!spec.has_clip_norm()) spec.set_clip_norm(1.0);
    check.Positive("optimizer.learning_rate", spec.learning_rate());
    check.Range("optimizer.final_learning_rate_ratio", spec.final_learning_rate_ratio(), 0.0, 1.0);
    check.Minimum<int32_t>("optimizer.warmup_steps", spec.warmup_steps(), 0);
    check.Range("optimizer.beta1", spec.beta1(), 0.0, 0.999999);
    check.Range("optimizer.beta2", spec.beta2(), 0.0, 0.999999);
    check.Positive("optimizer.epsilon", spec.epsilon());
    check.Minimum("optimizer.weight_decay", spec.weight_decay(), 0.0);
    check.Minimum("optimizer.clip_norm", spec.clip_norm(), 0.0);
  }

  static void CheckMixture(Checker& check, v1::Mixture& spec,
                           const std::vector<std::string>& domains) {
    if (!spec.weights().empty() && !spec.preset().empty()) {
      check.Fail("mixture has both preset='{}' and weights; give one", spec.preset());
    }
    if (spec.weights().empty()) {
      if (spec.preset().empty()) spec.set_preset("llama1");
      check.OneOf("mixture.preset", spec.preset(), kMixturePresets);
      return;
    }
    for (const auto& [domain, weight] : spec.weights()) {
      check.Positive(fmt::format("mixture.weights.{}", domain).c_str(), weight);
      if (!domains.empty() && std::find(domains.begin(), domains.end(), domain) == domains.end()) {
        check.Fail("mixture.weights.{}: the dataset has no such domain, it has {}{}", domain,
                   fmt::join(domains, ", "), Suggestion(domain, domains));
      }
    }
  }

  // That a dataset was made with a model's vocabulary, as far as both are known.
  static void CheckVocabulary(Checker& check, const std::string& field, const ThingFacts& model,
                              const ThingFacts& dataset) {
    if (!model.model.has_value() || !dataset.vocab_size.has_value()) return;
    if (model.model->vocab_size == *dataset.vocab_size) return;
    check.Fail(
        "{} has a vocabulary of {} tokens, the dataset was made with {}; prepare the dataset "
        "with the model's own tokenizer",
        field, model.model->vocab_size, *dataset.vocab_size);
  }

  static void CheckSequenceLength(Checker& check, const std::string& field, int32_t length,
                                  const ThingFacts& model) {
    if (!model.model.has_value() || model.model->context_length <= 0) return;
    if (length > model.model->context_length) {
      check.Fail("sequence_length={} is above the context of {}, {}; use 2 to {}", length, field,
                 model.model->context_length, model.model->context_length);
    }
  }

  void CheckTrain(Checker& check, int index, int32_t slots, v1::TrainSpec& spec,
                  ThingFacts& output) {
    const ThingFacts model =
        Look(check, index, "model", spec.model(),
             {v1::ARTEFACT_KIND_MODEL, v1::ARTEFACT_KIND_CHECKPOINT}, /*is_model=*/true);
    const ThingFacts dataset = Look(check, index, "dataset", spec.dataset(),
                                    {v1::ARTEFACT_KIND_DATASET}, /*is_model=*/false);
    if (model.model.has_value() && model.model->num_experts == 0) {
      check.Fail("model is dense; make a mixture of experts of it first, with a construct job");
    }
    CheckVocabulary(check, "model", model, dataset);
    check.Minimum<int32_t>("steps", spec.steps(), 1);
    if (!spec.has_sequence_length()) spec.set_sequence_length(4096);
    if (!spec.has_global_batch_samples()) spec.set_global_batch_samples(8);
    if (!spec.has_micro_batch_samples()) spec.set_micro_batch_samples(4);
    check.Minimum<int32_t>("sequence_length", spec.sequence_length(), 2);
    check.Minimum<int32_t>("global_batch_samples", spec.global_batch_samples(), 1);
    check.Minimum<int32_t>("micro_batch_samples", spec.micro_batch_samples(), 1);
    CheckSequenceLength(check, "model", spec.sequence_length(), model);
    const int64_t unit = int64_t{spec.micro_batch_samples()} * slots;
    if (check.status().ok() && spec.global_batch_samples() % unit != 0) {
      const int64_t above = (spec.global_batch_samples() + unit - 1) / unit * unit;
      check.Fail(
          "global_batch_samples={} is not a multiple of micro_batch_samples x slots = {} x {} "
          "= {}; use {}, or a smaller micro_batch_samples",
          spec.global_batch_samples(), spec.micro_batch_samples(), slots, unit, above);
    }
    CheckOptimizer(check, *spec.mutable_optimizer());
    CheckMixture(check, *spec.mutable_mixture(), dataset.domains);
    if (spec.compute_dtype().empty()) spec.set_compute_dtype("bf16");
    check.OneOf("compute_dtype", spec.compute_dtype(), kComputeDtypes);
    if (!spec.has_balance_loss_weight()) spec.set_balance_loss_weight(0.01);
    check.Minimum("balance_loss_weight", spec.balance_loss_weight(), 0.0);
    if (!spec.has_gate_noise()) spec.set_gate_noise(true);
    if (spec.load_estimator().empty()) spec.set_load_estimator("correct");
    check.OneOf("load_estimator", spec.load_estimator(), kLoadEstimators);
    v1::CheckpointPolicy& checkpoint = *spec.mutable_checkpoint();
    if (!checkpoint.has_interval_steps()) checkpoint.set_interval_steps(100);
    if (!checkpoint.has_keep()) checkpoint.set_keep(2);
    check.Minimum<int32_t>("checkpoint.interval_steps", checkpoint.interval_steps(), 1);
    check.Minimum<int32_t>("checkpoint.keep", checkpoint.keep(), 1);
    if (!spec.has_seed()) spec.set_seed(kDefaultSeed);
    check.Minimum<int64_t>("seed", spec.seed(), 0);
    output.model = model.model;
  }

  void CheckEvaluate(Checker& check, int index, v1::EvaluateSpec& spec) {
    const ThingFacts dataset = Look(check, index, "dataset", spec.dataset(),
                                    {v1::ARTEFACT_KIND_DATASET}, /*is_model=*/false);
    if (!spec.has_sequence_length()) spec.set_sequence_length(512);
    if (!spec.has_max_samples_per_domain()) spec.set_max_samples_per_domain(16);
    if (!spec.has_batch_samples()) spec.set_batch_samples(4);
    if (spec.compute_dtype().empty()) spec.set_compute_dtype("bf16");
    check.Minimum<int32_t>("sequence_length", spec.sequence_length(), 2);
    check.Minimum<int32_t>("max_samples_per_domain", spec.max_samples_per_domain(), 0);
    check.Minimum<int32_t>("batch_samples", spec.batch_samples(), 1);
    check.OneOf("compute_dtype", spec.compute_dtype(), kComputeDtypes);
    if (spec.models().empty()) check.Fail("models is empty; give at least one model");
    std::set<std::string> labels;
    for (int i = 0; i < spec.models_size(); ++i) {
      v1::EvaluatedModel& entry = *spec.mutable_models(i);
      const std::string field = fmt::format("models.{}", i);
      const ThingFacts model =
          Look(check, index, field, entry.model(),
               {v1::ARTEFACT_KIND_MODEL, v1::ARTEFACT_KIND_CHECKPOINT}, /*is_model=*/true);
      CheckVocabulary(check, field, model, dataset);
      CheckSequenceLength(check, field, spec.sequence_length(), model);
      if (entry.label().empty()) {
        entry.set_label(entry.model().has_path()
                            ? std::filesystem::path(entry.model().path()).filename().string()
                            : entry.model().artefact());
      }
      if (!labels.insert(entry.label()).second) {
        check.Fail("{}: label='{}' is used twice; give each model a label of its own", field,
                   entry.label());
      }
    }
  }

  void CheckExport(Checker& check, int index, v1::ExportSpec& spec, ThingFacts& output) {
    const ThingFacts model =
        Look(check, index, "model", spec.model(),
             {v1::ARTEFACT_KIND_MODEL, v1::ARTEFACT_KIND_CHECKPOINT}, /*is_model=*/true);
    if (spec.dtype().empty()) spec.set_dtype("bf16");
    check.OneOf("dtype", spec.dtype(), kExportDtypes);
    output.model = model.model;
  }

  const SpecFacts& outside_;
  std::vector<CompleteJob> jobs_;
  std::vector<ThingFacts> outputs_;  // of each job, filled in order of needs
  std::map<std::string, int> by_name_;
  std::map<std::string, int> by_output_;
  std::vector<std::string> names_;
};

}  // namespace

absl::StatusOr<std::vector<CompleteJob>> CompletePipeline(const std::vector<v1::JobSpec>& jobs,
                                                          const SpecFacts& facts) {
  return PipelineChecker(jobs, facts).Run();
}

std::string KindName(const v1::JobSpec& spec) {
  switch (spec.kind_case()) {
    case v1::JobSpec::kPrepare:
      return "prepare";
    case v1::JobSpec::kConstruct:
      return "construct";
    case v1::JobSpec::kTrain:
      return "train";
    case v1::JobSpec::kEvaluate:
      return "evaluate";
    case v1::JobSpec::kExport:
      return "export";
    case v1::JobSpec::KIND_NOT_SET:
      break;
  }
  return "";
}

std::string OutputName(const v1::JobSpec& spec) {
  switch (spec.kind_case()) {
    case v1::JobSpec::kPrepare:
      return spec.prepare().output();
    case v1::JobSpec::kConstruct:
      return spec.construct().output();
    case v1::JobSpec::kTrain:
      return spec.train().output();
    case v1::JobSpec::kEvaluate:
      return spec.evaluate().output();
    case v1::JobSpec::kExport:
      return spec.export_().output();
    case v1::JobSpec::KIND_NOT_SET:
      break;
  }
  return "";
}

v1::ArtefactKind OutputKind(const v1::JobSpec& spec) {
  switch (spec.kind_case()) {
    case v1::JobSpec::kPrepare:
      return v1::ARTEFACT_KIND_DATASET;
    case v1::JobSpec::kConstruct:
      return v1::ARTEFACT_KIND_MODEL;
    case v1::JobSpec::kTrain:
      return v1::ARTEFACT_KIND_CHECKPOINT;
    case v1::JobSpec::kEvaluate:
      return v1::ARTEFACT_KIND_REPORT;
    case v1::JobSpec::kExport:
      return v1::ARTEFACT_KIND_MODEL;
    case v1::JobSpec::KIND_NOT_SET:
      break;
  }
  return v1::ARTEFACT_KIND_UNSPECIFIED;
}

std::string KindName(v1::ArtefactKind kind) {
  switch (kind) {
    case v1::ARTEFACT_KIND_DATASET:
      return "dataset";
    case v1::ARTEFACT_KIND_MODEL:
      return "model";
    case v1::ARTEFACT_KIND_CHECKPOINT:
      return "checkpoint";
    case v1::ARTEFACT_KIND_REPORT:
      return "report";
    default:
      return "unknown";
  }
}

std::map<std::string, v1::InputRef> InputsOf(const v1::JobSpec& spec) {
  switch (spec.kind_case()) {
    case v1::JobSpec::kPrepare:
      return {{"tokenizer", spec.prepare().tokenizer()}};
    case v1::JobSpec::kConstruct:
      return {{"model", spec.construct().model()}};
    case v1::JobSpec::kTrain:
      return {{"model", spec.train().model()}, {"dataset", spec.train().dataset()}};
    case v1::JobSpec::kEvaluate: {
      std::map<std::string, v1::InputRef> inputs = {{"dataset", spec.evaluate().dataset()}};
      for (int i = 0; i < spec.evaluate().models_size(); ++i) {
        inputs[fmt::format("models.{}", i)] = spec.evaluate().models(i).model();
      }
      return inputs;
    }
    case v1::JobSpec::kExport:
      return {{"model", spec.export_().model()}};
    case v1::JobSpec::KIND_NOT_SET:
      break;
  }
  return {};
}

std::string ArtefactReference(const v1::Artefact& artefact) {
  return fmt::format("{}:{}", artefact.name(), artefact.version());
}

std::optional<int64_t> VocabularySize(const v1::Artefact& artefact) {
  const double size = NumberIn(artefact.metadata(), "vocab_size");
  if (size <= 0) return std::nullopt;
  return static_cast<int64_t>(size);
}

}  // namespace moe::coordinator
