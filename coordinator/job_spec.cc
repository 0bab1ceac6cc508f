#include "coordinator/job_spec.h"

#include <algorithm>
#include <functional>
#include <set>
#include <utility>

#include "common/status.h"
#include "coordinator/estimate.h"
#include "coordinator/job_array.h"
#include "coordinator/spec/checker.h"
#include "coordinator/spec/inputs.h"
#include "coordinator/spec/job_wide.h"
#include "coordinator/spec/kinds.h"

namespace moe::coordinator {
namespace {

constexpr int kMaxJobs = 1000;
// Of an array, at its submission; the others are checked when they are made.
constexpr int32_t kMaxCheckedElements = 200;

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
    for (CompleteJob& job : jobs_) {
      Checker check(job.spec.name());
      CheckJobWide(check, outside_, job.spec);
      MOE_RETURN_IF_ERROR(check.status());
    }
    MOE_RETURN_IF_ERROR(IndexNames());
    for (size_t i = 0; i < jobs_.size(); ++i) MOE_RETURN_IF_ERROR(FindNeeds(static_cast<int>(i)));
    MOE_ASSIGN_OR_RETURN(const std::vector<int> order, Order());
    for (const int index : order) MOE_RETURN_IF_ERROR(CheckKind(index));
    return std::move(jobs_);
  }

 private:
  absl::Status IndexNames() {
    for (size_t i = 0; i < jobs_.size(); ++i) {
      const v1::JobSpec& spec = jobs_[i].spec;
      if (!by_name_.emplace(spec.name(), static_cast<int>(i)).second) {
        return InvalidArgument("job '{}': name='{}' is used twice in the pipeline; rename one",
                               spec.name(), spec.name());
      }
      names_.push_back(spec.name());
      if (spec.has_array()) continue;  // its elements make things of other names
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
    FindAfter(check, "after_ok", job.spec.after_ok(), JobOutcome::kOk, job);
    FindAfter(check, "after_any", job.spec.after_any(), JobOutcome::kAny, job);
    FindAfter(check, "after_not_ok", job.spec.after_not_ok(), JobOutcome::kNotOk, job);
    MOE_RETURN_IF_ERROR(check.status());
    for (const auto& [field, input] : InputsOf(job.spec)) {
      if (!input.has_artefact()) continue;
      if (const auto maker = MakerOf(index, input.artefact())) needs.insert(*maker);
    }
    job.needs.assign(needs.begin(), needs.end());
    job.spec.clear_needs();
    for (const int need : job.needs) {
      job.spec.add_needs(jobs_[static_cast<size_t>(need)].spec.name());
    }
    return CheckSatisfiable(job);
  }

  // Dependencies on outcomes: on jobs of this pipeline by name, on earlier ones by id.
  template <typename Names>
  void FindAfter(Checker& check, const char* field, const Names& names, JobOutcome outcome,
                 CompleteJob& job) {
    for (const std::string& name : names) {
      if (const auto it = by_name_.find(name); it != by_name_.end()) {
        job.after.push_back({.outcome = outcome, .job = it->second});
      } else if (outside_.HasJob(name)) {
        job.after.push_back({.outcome = outcome, .job_id = name});
      } else {
        check.Fail("{}: '{}' is neither a job of this pipeline nor the id of an earlier one{}",
                   field, name, Suggestion(name, names_));
      }
    }
  }

  // That not two of its dependencies exclude each other.
  absl::Status CheckSatisfiable(const CompleteJob& job) const {
    for (const JobDependency& a : job.after) {
      if (a.outcome != JobOutcome::kNotOk) continue;
      bool must_succeed = std::count(job.needs.begin(), job.needs.end(), a.job) > 0;
      for (const JobDependency& b : job.after) {
        must_succeed |= b.outcome == JobOutcome::kOk && b.job == a.job && b.job_id == a.job_id;
      }
      if (!must_succeed) continue;
      return InvalidArgument(
          "job '{}': after_not_ok: '{}' must fail and must succeed as well, which cannot be; "
          "remove "
          "one of the two",
          job.spec.name(), a.job >= 0 ? jobs_[static_cast<size_t>(a.job)].spec.name() : a.job_id);
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
        problem =
            InvalidArgument("job '{}': waits for itself: {}; remove one of these dependencies",
                            cycle.front(), fmt::join(cycle, " -> "));
        return;
      }
      marks[static_cast<size_t>(index)] = Mark::kOpen;
      for (const int need : jobs_[static_cast<size_t>(index)].needs) visit(need);
      for (const JobDependency& after : jobs_[static_cast<size_t>(index)].after) {
        if (after.job >= 0) visit(after.job);
      }
      marks[static_cast<size_t>(index)] = Mark::kDone;
      path.pop_back();
      order.push_back(index);
    };
    for (size_t i = 0; i < jobs_.size(); ++i) visit(static_cast<int>(i));
    if (!problem.ok()) return problem;
    return order;
  }

  absl::Status CheckKind(int index) {
    CompleteJob& job = jobs_[static_cast<size_t>(index)];
    outputs_[static_cast<size_t>(index)].kind = OutputKind(job.spec);
    if (job.spec.has_array()) return CheckElements(index);
    return CheckKind(index, job, outputs_[static_cast<size_t>(index)]);
  }

  // The array's own spec stays as it was given: its defaults may depend on what differs.
  absl::Status CheckElements(int index) const {
    const v1::JobSpec& array = jobs_[static_cast<size_t>(index)].spec;
    for (int32_t i = 0; i < std::min(array.array().size(), kMaxCheckedElements); ++i) {
      CompleteJob element{ElementOf(array, i), {}};
      Checker check(element.spec.name());
      CheckJobWide(check, outside_, element.spec);
      MOE_RETURN_IF_ERROR(check.status());
      ThingFacts output;
      MOE_RETURN_IF_ERROR(CheckKind(index, element, output));
    }
    return absl::OkStatus();
  }

  absl::Status CheckKind(int index, CompleteJob& job, ThingFacts& output) const {
    v1::JobSpec& spec = job.spec;
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
        CheckFits(check, output, job);
        break;
      case v1::JobSpec::kFinetune:
        CheckFinetune(check, inputs, spec.resources().slots(), *spec.mutable_finetune(), output);
        CheckFits(check, output, job);
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
  void CheckFits(Checker& check, const ThingFacts& output, CompleteJob& job) const {
    if (output.model.has_value()) job.model_shape = output.model->shape;
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

const QueueTree& SpecFacts::queues() const {
  static const QueueTree* const kSingle = new QueueTree();
  return *kSingle;
}

absl::StatusOr<std::vector<CompleteJob>> CompletePipeline(const std::vector<v1::JobSpec>& jobs,
                                                          const SpecFacts& facts) {
  return PipelineChecker(jobs, facts).Run();
}

const v1::TrainSpec* TrainSettings(const v1::JobSpec& spec) {
  if (spec.has_train()) return &spec.train();
  return spec.has_finetune() ? &spec.finetune() : nullptr;
}

std::string KindName(const v1::JobSpec& spec) {
  switch (spec.kind_case()) {
    case v1::JobSpec::kPrepare:
      return "prepare";
    case v1::JobSpec::kConstruct:
      return "construct";
    case v1::JobSpec::kTrain:
      return "train";
    case v1::JobSpec::kFinetune:
      return "finetune";
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
    case v1::JobSpec::kFinetune:
      return spec.finetune().output();
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
    case v1::JobSpec::kFinetune:
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
    case v1::JobSpec::kPrepare: {
      std::map<std::string, v1::InputRef> inputs = {{"tokenizer", spec.prepare().tokenizer()}};
      if (spec.prepare().has_scores_from()) inputs["scores_from"] = spec.prepare().scores_from();
      return inputs;
    }
    case v1::JobSpec::kConstruct: {
      std::map<std::string, v1::InputRef> inputs = {{"model", spec.construct().model()}};
      if (spec.construct().has_calibrate()) {
        inputs["calibrate.dataset"] = spec.construct().calibrate().dataset();
      }
      if (spec.construct().has_importance()) {
        inputs["importance.dataset"] = spec.construct().importance().dataset();
      }
      if (spec.construct().has_gate_training()) {
        inputs["gate_training.dataset"] = spec.construct().gate_training().dataset();
      }
      return inputs;
    }
    case v1::JobSpec::kTrain:
    case v1::JobSpec::kFinetune: {
      const v1::TrainSpec& train = *TrainSettings(spec);
      std::map<std::string, v1::InputRef> inputs = {{"model", train.model()},
                                                    {"dataset", train.dataset()}};
      if (train.mixture().dynamic().has_reference()) {
        inputs["mixture.dynamic.reference"] = train.mixture().dynamic().reference();
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
