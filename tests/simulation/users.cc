#include "tests/simulation/users.h"

#include <utility>

#include "common/status.h"
#include "tests/simulation/agreeable_facts.h"

namespace moe::simulation {

using coordinator::Turn;
using Core = SimCoordinator::Core;

namespace {

constexpr int64_t kPatienceMillis = 8000;
constexpr char kUser[] = "someone";

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

v1::JobSpec ArraySpec(const std::string& name, Random& random) {
  v1::JobSpec spec = ConstructSpec(name);
  spec.mutable_array()->set_size(static_cast<int32_t>(random.Between(2, 6)));
  spec.mutable_array()->set_max_running(kMostElementsAtOnce);
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

void Users::Begin(Plan plan, int64_t within_ms) {
  workers_ = plan.workers;
  for (int i = 0; i < plan.pipelines; ++i) {
    const std::string request_id = fmt::format("request-{}", ++submitted_);
    v1::SubmitPipelineRequest& request = unanswered_[request_id];
    request.set_request_id(request_id);
    const std::string name = fmt::format("run{}", submitted_);
    if (world_->random.OneIn(3)) {
      *request.add_jobs() = ConstructSpec(name);
    } else if (world_->random.OneIn(3)) {
      *request.add_jobs() = ArraySpec(name, world_->random);
    } else {
      *request.add_jobs() = PrepareSpec(name + "-data");
      *request.add_jobs() = ConstructSpec(name + "-moe");
      *request.add_jobs() = TrainSpec(name, world_->random);
    }
    std::vector<std::string> queues = {"", "research/mistral", "production"};
    const std::string queue = world_->random.Pick(queues);
    for (v1::JobSpec& spec : *request.mutable_jobs()) spec.set_queue(queue);
    world_->time.After(world_->random.Between(0, within_ms),
                       [this, request_id] { Submit(request_id); });
  }
  for (int i = 0; i < plan.wishes; ++i) {
    world_->time.After(world_->random.Between(0, within_ms), [this] { WishSomething(); });
  }
  for (int i = 0; i < plan.drains; ++i) {
    world_->time.After(world_->random.Between(0, within_ms), [this] { DrainOrUndrain(); });
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
  auto jobs = coordinator::CompletePipeline({request.jobs().begin(), request.jobs().end()},
                                            AgreeableFacts());
  if (!jobs.ok()) {
    return world_->Violate("{} is refused: {}", request.request_id(), Message(jobs.status()));
  }
  if (world_->Has(PlantedBug::kArrayLimitIgnored)) {
    for (coordinator::CompleteJob& job : *jobs) {
      if (job.spec.has_array()) job.spec.mutable_array()->clear_max_running();
    }
  }
  coordinator_->Change([this, request, jobs = *jobs](Turn& turn, const Core& core) {
    v1::SubmitPipelineResponse response;
    const auto known = core.jobs->FindSubmission(request);
    if (known.ok() && known->has_value()) {
      response = **known;
    } else {
      response = core.jobs->Submit(turn, request, jobs, kUser);
      Record(turn, core, "SubmitPipeline", response.pipeline_id(), absl::OkStatus());
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
          "CancelJob", job,
          [](Turn& turn, v1::JobRecord& record, const Core& core) {
            return core.supervisor->Cancel(turn, record, "enough");
          },
          [this, job] { promises_->CancelAnswered(job); });
    case 1:
    case 2:
      return Ask(
          "HoldJob", job,
          [](Turn& turn, v1::JobRecord& record, const Core& core) {
            return core.supervisor->Hold(turn, record, "");
          },
          nothing);
    case 3:
    case 4:
      return Ask(
          "ReleaseJob", job,
          [](Turn& turn, v1::JobRecord& record, const Core& core) {
            return core.supervisor->Release(turn, record);
          },
          nothing);
    case 5:
    case 6:
      return Ask(
          "PreemptJob", job,
          [](Turn& turn, v1::JobRecord& record, const Core& core) {
            return core.supervisor->Preempt(turn, record, "");
          },
          nothing);
    case 7:
      return Ask(
          "PinWeights", job,
          [](Turn& turn, v1::JobRecord& record, const Core& core) {
            return core.sampler->Pin(turn, record, kUser, {});
          },
          nothing);
    case 8:
      return Ask(
          "UnpinWeights", job,
          [](Turn& turn, v1::JobRecord& record, const Core& core) {
            return core.sampler->Unpin(turn, record);
          },
          nothing);
    default:
      return Ask(
          "RollBackWeights", job,
          [](Turn& turn, v1::JobRecord& record, const Core& core) {
            return core.sampler->RollBack(turn, record, kUser, 1);
          },
          nothing);
  }
}

void Users::Ask(const std::string& method, const std::string& job,
                const std::function<absl::Status(Turn&, v1::JobRecord&, const Core&)>& wish,
                const std::function<void()>& answered) {
  coordinator_->Change([this, method, job, wish, answered](Turn& turn, const Core& core) {
    v1::JobRecord* record = core.jobs->Find(job);
    if (record == nullptr) return;  // Promises notices
    const absl::Status status = wish(turn, *record, core);
    Record(turn, core, method, job, status);
    if (status.ok()) turn.After(answered);
  });
}

// What is done and written down here is answered once both are durable.
void Users::Record(Turn& turn, const Core& core, const std::string& method,
                   const std::string& target, const absl::Status& status) {
  core.audit->Record(turn, {.user = kUser, .peer = "ipv4:10.0.0.7:1"}, method, target, status);
  if (!status.ok()) return;
  turn.After([this, method, target] { promises_->books().ChangeAnswered(method, target); });
}

// ---------------------------------------------------------------------------------------------
// Drains: services/cluster_service.cc

void Users::DrainOrUndrain() {
  const std::string worker = world_->random.Pick(workers_);
  if (world_->random.OneIn(3)) return Undrain(worker);
  const bool stop_jobs = world_->random.OneIn(2);
  world_->Note("somebody drains {}{}", worker, stop_jobs ? " and stops its jobs" : "");
  const int64_t asked = promises_->slots().DrainAsked(worker);
  coordinator_->Change([this, worker, stop_jobs, asked](Turn& turn, const Core& core) {
    const absl::Status status = core.workers->Drain(turn, worker, "maintenance", kUser);
    Record(turn, core, "DrainWorker", worker, status);
    if (!status.ok()) return;  // it was never heard of
    if (stop_jobs) StopJobsOn(turn, core, worker);
    core.supervisor->Wake();
    turn.After([this, worker, asked] { promises_->slots().DrainAnswered(worker, asked); });
  });
}

void Users::StopJobsOn(Turn& turn, const Core& core, const std::string& worker) {
  for (const std::string& attempt : core.workers->AttemptsOn(worker)) {
    v1::JobRecord& record = *core.jobs->Find(attempt.substr(0, attempt.find('.')));
    const bool runs = record.job().state() == v1::JOB_STATE_STARTING ||
                      record.job().state() == v1::JOB_STATE_RUNNING;
    if (!runs) continue;
    const absl::Status status = core.supervisor->Preempt(turn, record, worker + " is drained");
    if (!status.ok()) world_->Violate("{} cannot be stopped: {}", attempt, Message(status));
  }
}

void Users::Undrain(const std::string& worker) {
  world_->Note("somebody undrains {}", worker);
  promises_->slots().UndrainAsked(worker);
  coordinator_->Change([this, worker](Turn& turn, const Core& core) {
    const absl::Status status = core.workers->Undrain(turn, worker);
    Record(turn, core, "UndrainWorker", worker, status);
    core.supervisor->Wake();
  });
}

void Users::ReleaseAll() {
  for (const std::string& job : promises_->jobs()) {
    Ask(
        "ReleaseJob", job,
        [](Turn& turn, v1::JobRecord& record, const Core& core) {
          return core.supervisor->Release(turn, record);
        },
        [] {});
  }
  for (const std::string& worker : workers_) Undrain(worker);
}

}  // namespace moe::simulation
