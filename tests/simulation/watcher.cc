#include "tests/simulation/watcher.h"

#include <utility>

#include "coordinator/job_table.h"

namespace moe::simulation {

void Watcher::Begin() {
  Connect();
  world_->time.After(world_->random.Between(500, 4000), [this] { Begin(); });
}

void Watcher::Connect() {
  coordinator_->Read([this](const SimCoordinator::Core& core) {
    if (std::exchange(incarnation_, coordinator_->incarnation()) == coordinator_->incarnation()) {
      return;
    }
    const auto missed = core.jobs->ChangesSince({}, revision_);
    if (!missed.ok())
      return world_->Violate("a watcher is refused: {}", missed.status().ToString());
    if (revision_ == 0) {  // asked for the present state, and learns nothing of how it came about
      first_revision_ = revision_ = core.jobs->revision();
    } else {
      for (const auto& message : *missed) Hear(message);
    }
    core.jobs->AddWatcher([](uint64_t) { return true; },
                          [this](const auto& message) { Hear(message); });
  });
}

void Watcher::Hear(const coordinator::JobTable::WatchMessage& message) {
  const int64_t revision = message->job().revision();
  if (revision <= revision_) {
    world_->Violate("a watcher at revision {} heard of revision {}", revision_, revision);
  }
  revision_ = revision;
  if (message->has_event()) heard_[message->event().revision()] = message->event().message();
}

void Watcher::CheckComplete(const SimCoordinator::Core& core) {
  if (first_revision_ == 0) return;
  int64_t stored = 0;
  v1::ListJobsRequest all;
  const v1::ListJobsResponse jobs = core.jobs->List(all, 1'000'000, UINT64_MAX);
  for (const v1::Job& job : jobs.jobs()) {
    const auto events =
        core.store->ListEvents(*coordinator::ParseJobId(job.job_id()), first_revision_);
    if (!events.ok()) return world_->Violate("{}", events.status().ToString());
    for (const v1::JobEvent& event : *events) {
      ++stored;
      const auto it = heard_.find(event.revision());
      if (it == heard_.end()) {
        world_->Violate("a watcher missed revision {}: {} {}", event.revision(), job.job_id(),
                        event.message());
      } else if (it->second != event.message()) {
        world_->Violate("a watcher heard '{}' under revision {}, which is '{}'", it->second,
                        event.revision(), event.message());
      }
    }
  }
  if (stored != static_cast<int64_t>(heard_.size())) {
    world_->Violate("a watcher heard of {} events, and {} are stored", heard_.size(), stored);
  }
}

}  // namespace moe::simulation
