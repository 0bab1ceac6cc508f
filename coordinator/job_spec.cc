#include "coordinator/job_spec.h"

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include "common/status.h"
#include "coordinator/estimate.h"
#include "coordinator/spec/checker.h"
#include "coordinator/spec/inputs.h"
#include "coordinator/spec/kinds.h"

namespace moe::coordinator {
namespace {

constexpr int kMaxJobs = 1000;
constexpr int kMaxLabels = 32;
constexpr int32_t kMaxPriority = 1000;
constexpr int32_t kMaxSlots = 4096;

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
    if (!resources.has_preemptible()) resources.set_preemptible(true);
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

  absl::Status CheckKind(int index) {
    v1::JobSpec& spec = jobs_[static_cast<size_t>(index)].spec;
    ThingFacts& output = outputs_[static_cast<size_t>(index)];
    output.kind = OutputKind(spec);
    Checker check(spec.name());
    const JobInputs inputs(*this, index);
    switch (spec.kind_case()) {
      case v1::JobSpec::kPrepare:
        CheckPrepare(check, inputs, *spec.mutable_prepare(), output);
        break;
      case v1::JobSpec::kConstruct:
        CheckConstruct(check, inputs, *spec.mutable_construct(), output);
        break;
      case v1::JobSpec::kTrain:
        CheckTrain(check, inputs, spec.resources().slots(), *spec.mutable_train(), output);
        if (output.model.has_value()) {
          jobs_[static_cast<size_t>(index)].model_shape = output.model->shape;
        }
        CheckFits(check, jobs_[static_cast<size_t>(index)]);
        break;
      case v1::JobSpec::kEvaluate:
        CheckEvaluate(check, inputs, *spec.mutable_evaluate());
        break;
      case v1::JobSpec::kExport:
        CheckExport(check, inputs, *spec.mutable_export_(), output);
        break;
      case v1::JobSpec::KIND_NOT_SET:
        break;
    }
    return check.status();
  }

  // Running out of memory is certain: better said now than by a rank.
  void CheckFits(Checker& check, const CompleteJob& job) const {
    if (!check.status().ok() || !job.model_shape.has_value()) return;
    const std::optional<planner::Machine> machine = outside_.LargestSlot();
    if (!machine.has_value()) return;
    const planner::TrainSetup setup = SetupOf(job.spec, *job.model_shape);
    const planner::TrainPlan plan = planner::PlanTraining(setup, *machine);
    if (!plan.fits) check.Fail("{}", planner::DescribeMisfit(plan, setup, *machine));
  }

  // The inputs of one job: other jobs' outputs, the catalogue, paths.
  class JobInputs : public Inputs {
   public:
    JobInputs(const PipelineChecker& pipeline, int index)
        : Inputs(pipeline.outside_), pipeline_(pipeline), index_(index) {}

   protected:
    const ThingFacts* FindOutput(const std::string& reference) const override {
      const std::optional<int> maker = pipeline_.MakerOf(index_, reference);
      if (!maker.has_value()) return nullptr;
      return &pipeline_.outputs_[static_cast<size_t>(*maker)];
    }
    std::vector<std::string> OutputNames() const override {
      std::vector<std::string> names;
      for (const auto& [output, maker] : pipeline_.by_output_) names.push_back(output);
      return names;
    }

   private:
    const PipelineChecker& pipeline_;
    const int index_;
  };

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
    case v1::JobSpec::kConstruct: {
      std::map<std::string, v1::InputRef> inputs = {{"model", spec.construct().model()}};
      if (spec.construct().has_calibrate()) {
        inputs["calibrate.dataset"] = spec.construct().calibrate().dataset();
      }
      if (spec.construct().has_importance()) {
        inputs["importance.dataset"] = spec.construct().importance().dataset();
      }
      return inputs;
    }
    case v1::JobSpec::kTrain: {
      std::map<std::string, v1::InputRef> inputs = {{"model", spec.train().model()},
                                                    {"dataset", spec.train().dataset()}};
      if (spec.train().mixture().dynamic().has_reference()) {
        inputs["mixture.dynamic.reference"] = spec.train().mixture().dynamic().reference();
      }
      return inputs;
    }
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

}  // namespace moe::coordinator
