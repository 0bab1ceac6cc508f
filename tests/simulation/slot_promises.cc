#include "tests/simulation/slot_promises.h"

#include <vector>

#include "coordinator/job_dependencies.h"
#include "coordinator/job_state.h"
#include "tests/simulation/agreeable_facts.h"

namespace moe::simulation {

using coordinator::FormatAttempt;
using coordinator::IsEnded;

SlotPromises::SlotPromises(World* world) : world_(world), queues_(SimQueues(/*limited=*/true)) {}

void SlotPromises::DrainAnswered(const std::string& worker, int64_t asked) {
  if (undrains_asked_[worker] == asked) drained_.insert(worker);
}

void SlotPromises::UndrainAsked(const std::string& worker) {
  ++undrains_asked_[worker];
  drained_.erase(worker);
}

void SlotPromises::OnStart(const SimCoordinator::Core& core) {
  // Those of a last turn that nobody heard of, too.
  for (const auto& [id, attempt] : core.supervisor->attempts().all()) seen_.insert(id);
  CheckQueues(core);
  CheckArrays(core);
}

void SlotPromises::AfterTurn(const SimCoordinator::Core& core) {
  CheckQueues(core);
  CheckArrays(core);
  CheckDrains(core);
}

void SlotPromises::CheckQueues(const SimCoordinator::Core& core) {
  std::vector<int64_t> used(queues_.rules().size(), 0);
  for (const auto& [id, attempt] : core.supervisor->attempts().all()) {
    const v1::Job& job = core.supervisor->attempts().JobOf(attempt).job();
    for (int32_t q = queues_.QueueOf(job.spec().queue()); q >= 0; q = queues_.rules(q).parent) {
      used[static_cast<size_t>(q)] += static_cast<int64_t>(attempt.ranks.size());
    }
  }
  for (size_t q = 0; q < used.size(); ++q) {
    const coordinator::QueueRules& rules = queues_.rules()[q];
    if (used[q] > rules.limit) {
      world_->Violate("queue {} uses {} slots, its limit is {}", rules.name, used[q], rules.limit);
    }
  }
}

void SlotPromises::CheckArrays(const SimCoordinator::Core& core) {
  struct Elements {
    std::set<int32_t> indices;
    int32_t live = 0;
    int32_t succeeded = 0;
  };
  std::map<std::string, Elements> arrays;
  for (uint64_t number = 1; core.jobs->Find(number) != nullptr; ++number) {
    const v1::Job& job = core.jobs->Find(number)->job();
    if (coordinator::IsArray(job)) arrays[job.job_id()];
    if (job.array_job_id().empty()) continue;
    Elements& elements = arrays[job.array_job_id()];
    if (!elements.indices.insert(job.array_index()).second) {
      world_->Violate("element {} of array {} is two jobs; one is {}", job.array_index(),
                      job.array_job_id(), job.job_id());
    }
    elements.live += IsEnded(job.state()) ? 0 : 1;
    elements.succeeded += job.state() == v1::JOB_STATE_SUCCEEDED ? 1 : 0;
  }
  for (const auto& [id, elements] : arrays) {
    const v1::Job& array = core.jobs->Find(id)->job();
    const int32_t size = array.spec().array().size();
    const auto jobs = static_cast<int32_t>(elements.indices.size());
    if (elements.live > kMostElementsAtOnce) {
      world_->Violate("array {} has {} elements at once, its limit is {}", id, elements.live,
                      kMostElementsAtOnce);
    }
    if (array.array().waiting() + jobs != size || array.array().live() != elements.live ||
        array.array().succeeded() != elements.succeeded) {
      world_->Violate(
          "array {} of {} counts {} waiting, {} live and {} succeeded, and {} are jobs, {} live "
          "and {} succeeded",
          id, size, array.array().waiting(), array.array().live(), array.array().succeeded(), jobs,
          elements.live, elements.succeeded);
    }
    if (array.state() == v1::JOB_STATE_SUCCEEDED && elements.succeeded != size) {
      world_->Violate("array {} succeeded with {} of {} elements", id, elements.succeeded, size);
    }
  }
}

void SlotPromises::CheckDrains(const SimCoordinator::Core& core) {
  for (const auto& [id, attempt] : core.supervisor->attempts().all()) {
    if (!seen_.insert(id).second) continue;
    for (const auto& rank : attempt.ranks) {
      if (drained_.contains(rank.worker_id)) {
        world_->Violate("{} was placed on {}, which was drained before",
                        FormatAttempt(id.first, id.second), rank.worker_id);
      }
    }
  }
}

}  // namespace moe::simulation
