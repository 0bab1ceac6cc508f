#include "tests/simulation/users.h"

#include <utility>

#include "common/status.h"

namespace moe::simulation {

using coordinator::Turn;
using Core = SimCoordinator::Core;

namespace {

constexpr int64_t kPatienceMillis = 8000;

// Every path is good, and no artefact is older than the simulation.
class AgreeableFacts final : public coordinator::SpecFacts {
 public:
  absl::StatusOr<coordinator::ModelFacts> ReadModel(const std::string&) const override {
    return coordinator::ModelFacts{
        .vocab_size = 49152, .intermediate_size = 1536, .context_length = 8192, .num_experts = 0};
  }
  bool HoldsModel(const std::string& path) const override { return path.ends_with(".gguf"); }
  absl::Status CheckReadable(const std::string&, bool* is_empty) const override {
    *is_empty = false;
    return absl::OkStatus();
  }
  const v1::Artefact* FindArtefact(const std::string&) const override { return nullptr; }
};

v1::JobSpec PrepareSpec(const std::string& name) {
  v1::JobSpec spec;
  spec.set_name(name);
  spec.mutable_prepare()->mutable_tokenizer()->set_path("/models/m.gguf");
  for (const char* domain : {"c4", "github"}) {
    v1::DomainInput& input = *spec.mutable_prepare()->add_domains();
    input.set_name(domain);
    input.add_paths("/text");
  }
  return spec;
}

v1::JobSpec ConstructSpec(const std::string& name) {
  v1::JobSpec spec;
  spec.set_name(name);
  spec.mutable_construct()->mutable_model()->set_path("/models/m.gguf");
  spec.mutable_construct()->set_method("independent-random");
  return spec;
}

v1::JobSpec TrainSpec(const std::string& name, Random& random) {
  v1::JobSpec spec;
  spec.set_name(name);
  spec.set_priority(static_cast<int32_t>(random.Between(0, 2)));
  spec.mutable_resources()->set_slots(static_cast<int32_t>(random.Between(1, 2)));
  spec.set_max_infrastructure_retries(static_cast<int32_t>(random.Between(3, 40)));
  v1::TrainSpec& train = *spec.mutable_train();
  train.mutable_dataset()->set_artefact(name + "-data");
  train.mutable_model()->set_artefact(name + "-moe");
  train.set_steps(random.Between(4, 24));
  train.set_sequence_length(512);
  train.mutable_checkpoint()->set_interval_steps(static_cast<int32_t>(random.Between(2, 6)));
  train.mutable_checkpoint()->set_keep(static_cast<int32_t>(random.Between(1, 3)));
  if (random.OneIn(4)) return spec;
  v1::DynamicMixture& dynamic = *train.mutable_mixture()->mutable_dynamic();
  dynamic.set_interval_steps(random.Between(2, 5));
  (*dynamic.mutable_reference_losses())["c4"] = 2.0;
  (*dynamic.mutable_reference_losses())["github"] = 0.7;
  return spec;
}

}  // namespace

Users::Users(World* world, SimCoordinator* coordinator, Promises* promises)
    : world_(world), coordinator_(coordinator), promises_(promises) {}

void Users::Begin(int pipelines, int wishes, int64_t within_ms) {
  for (int i = 0; i < pipelines; ++i) {
    const std::string request_id = fmt::format("request-{}", ++submitted_);
    v1::SubmitPipelineRequest& request = unanswered_[request_id];
    request.set_request_id(request_id);
    const std::string name = fmt::format("run{}", submitted_);
    if (world_->random.OneIn(3)) {
      *request.add_jobs() = ConstructSpec(name);
    } else {
      *request.add_jobs() = PrepareSpec(name + "-data");
      *request.add_jobs() = ConstructSpec(name + "-moe");
      *request.add_jobs() = TrainSpec(name, world_->random);
    }
    world_->time.After(world_->random.Between(0, within_ms),
                       [this, request_id] { Submit(request_id); });
  }
  for (int i = 0; i < wishes; ++i) {
    world_->time.After(world_->random.Between(0, within_ms), [this] { WishSomething(); });
  }
}

// ---------------------------------------------------------------------------------------------
// Submissions: services/job_service.cc

void Users::Submit(const std::string& request_id) {
  const auto it = unanswered_.find(request_id);
  if (it == unanswered_.end()) return;
  coordinator_->Read([this, request = it->second](const Core& core) {
    const auto known = core.jobs->FindSubmission(request);
    if (!known.ok()) {
      return world_->Violate("{} is refused: {}", request.request_id(), Message(known.status()));
    }
    if (known->has_value()) return Answer(request, **known);
    // Validation reads files, off the loop's thread.
    world_->time.After(world_->random.Between(1, 300), [this, request] { Complete(request); });
  });
  world_->time.After(world_->random.Between(kPatienceMillis / 2, kPatienceMillis),
                     [this, request_id] { Submit(request_id); });
}

void Users::Complete(const v1::SubmitPipelineRequest& request) {
  const auto jobs = coordinator::CompletePipeline({request.jobs().begin(), request.jobs().end()},
                                                  AgreeableFacts());
  if (!jobs.ok()) {
    return world_->Violate("{} is refused: {}", request.request_id(), Message(jobs.status()));
  }
  coordinator_->Change([this, request, jobs = *jobs](Turn& turn, const Core& core) {
    v1::SubmitPipelineResponse response;
    const auto known = core.jobs->FindSubmission(request);
    if (known.ok() && known->has_value()) {
      response = **known;
    } else {
      response = core.jobs->Submit(turn, request, jobs, "someone");
      core.supervisor->Wake();
    }
    turn.After([this, request, response] { Answer(request, response); });
  });
}

void Users::Answer(const v1::SubmitPipelineRequest& request,
                   const v1::SubmitPipelineResponse& response) {
  if (world_->random.OneIn(6)) return;  // lost on its way
  promises_->SubmitAnswered(request.request_id(), response);
  // Some ask again all the same, and must get the same answer.
  if (!world_->random.OneIn(3)) unanswered_.erase(request.request_id());
}

// ---------------------------------------------------------------------------------------------
// Wishes

void Users::WishSomething() {
  if (promises_->jobs().empty()) return;
  const std::string job = world_->random.Pick(promises_->jobs());
  const int64_t what = world_->random.Between(0, 9);
  world_->Note("somebody wishes {} of {}", what, job);
  const auto nothing = [] {};
  switch (what) {
    case 0:
      return Ask(
          job,
          [](Turn& turn, v1::JobRecord& record, const Core& core) {
            return core.supervisor->Cancel(turn, record, "enough");
          },
          [this, job] { promises_->CancelAnswered(job); });
    case 1:
    case 2:
      return Ask(
          job,
          [](Turn& turn, v1::JobRecord& record, const Core& core) {
            return core.supervisor->Hold(turn, record, "");
          },
          nothing);
    case 3:
    case 4:
      return Ask(
          job,
          [](Turn& turn, v1::JobRecord& record, const Core& core) {
            return core.supervisor->Release(turn, record);
          },
          nothing);
    case 5:
    case 6:
      return Ask(
          job,
          [](Turn& turn, v1::JobRecord& record, const Core& core) {
            return core.supervisor->Preempt(turn, record, "");
          },
          nothing);
    case 7:
      return Ask(
          job,
          [](Turn& turn, v1::JobRecord& record, const Core& core) {
            return core.sampler->Pin(turn, record, "someone", {});
          },
          nothing);
    case 8:
      return Ask(
          job,
          [](Turn& turn, v1::JobRecord& record, const Core& core) {
            return core.sampler->Unpin(turn, record);
          },
          nothing);
    default:
      return Ask(
          job,
          [](Turn& turn, v1::JobRecord& record, const Core& core) {
            return core.sampler->RollBack(turn, record, "someone", 1);
          },
          nothing);
  }
}

void Users::Ask(const std::string& job,
                const std::function<absl::Status(Turn&, v1::JobRecord&, const Core&)>& wish,
                const std::function<void()>& answered) {
  coordinator_->Change([job, wish, answered](Turn& turn, const Core& core) {
    v1::JobRecord* record = core.jobs->Find(job);
    if (record == nullptr) return;  // Promises notices
    if (wish(turn, *record, core).ok()) turn.After(answered);
  });
}

void Users::ReleaseAll() {
  for (const std::string& job : promises_->jobs()) {
    Ask(
        job,
        [](Turn& turn, v1::JobRecord& record, const Core& core) {
          return core.supervisor->Release(turn, record);
        },
        [] {});
  }
}

}  // namespace moe::simulation
