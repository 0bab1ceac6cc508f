#include "tests/simulation/promises.h"

#include <limits>
#include <optional>
#include <utility>

#include "coordinator/job_dependencies.h"
#include "coordinator/job_spec.h"
#include "coordinator/job_state.h"

namespace moe::simulation {

using coordinator::FormatAttempt;
using coordinator::IsEnded;
using coordinator::StateName;

void Promises::SubmitAnswered(const std::string& request_id,
                              const v1::SubmitPipelineResponse& answer) {
  std::vector<std::string> ids;
  for (const v1::Job& job : answer.jobs()) ids.push_back(job.job_id());
  world_->Note("{} is answered: {} with {}", request_id, answer.pipeline_id(),
               fmt::join(ids, ", "));
  const auto [it, is_new] = answers_.emplace(request_id, ids);
  if (!is_new && it->second != ids) {
    world_->Violate("{} was answered with {} before, and now with {}", request_id,
                    fmt::join(it->second, ", "), fmt::join(ids, ", "));
  }
  std::vector<std::string> all = ids;
  all.push_back(answer.pipeline_id());
  for (const std::string& id : all) {
    const auto [owner, unused] = owners_.emplace(id, request_id);
    if (owner->second != request_id) {
      world_->Violate("id {} was given to {} and again to {}", id, owner->second, request_id);
    }
  }
  if (is_new) jobs_.insert(jobs_.end(), ids.begin(), ids.end());
}

void Promises::OnStart(const SimCoordinator::Core& core) {
  slots_.OnStart(core);
  books_.OnStart(core);
  CheckRevision(core);
  CheckSubmissions(core);
  CheckArtefacts(core);
  CheckJournals(core);
}

void Promises::AfterTurn(const SimCoordinator::Core& core) {
  slots_.AfterTurn(core);
  books_.AfterTurn(core);
  CheckRevision(core);
  CheckSubmissions(core);
  CheckSlots(core);
  CheckArtefacts(core);
  CheckJournals(core);
}

void Promises::CheckRevision(const SimCoordinator::Core& core) {
  if (core.jobs->revision() < revision_) {
    world_->Violate("revision {} was told, and now it is {}", revision_, core.jobs->revision());
  }
  revision_ = std::max(revision_, core.jobs->revision());
}

void Promises::CheckSubmissions(const SimCoordinator::Core& core) {
  for (const std::string& id : jobs_) {
    const v1::JobRecord* record = core.jobs->Find(id);
    if (record == nullptr) {
      world_->Violate("job {} was acknowledged and is not there", id);
      continue;
    }
    const v1::JobState state = record->job().state();
    if (const auto ended = ended_.find(id); ended != ended_.end() && ended->second != state) {
      world_->Violate("job {} had ended as {} and is {}", id, StateName(ended->second),
                      StateName(state));
    }
    if (!IsEnded(state) || !ended_.emplace(id, state).second) continue;
    world_->Note("{} ends as {}: {}", id, StateName(state), record->job().reason());
    if (cancelled_.contains(id) && state != v1::JOB_STATE_CANCELLED) {
      world_->Violate("job {} was cancelled, which was acknowledged, and ended as {}", id,
                      StateName(state));
    }
    if (state != v1::JOB_STATE_SUCCEEDED) continue;
    // What an array makes its elements make.
    if (core.catalog->MadeBy(id).empty() && !coordinator::IsArray(record->job())) {
      world_->Violate("job {} succeeded and made nothing", id);
    }
    CheckSteps(core, record->job());
  }
}

void Promises::CheckSteps(const SimCoordinator::Core& core, const v1::Job& job) {
  if (!job.spec().has_train()) return;
  const auto steps = core.store->ListSteps(*coordinator::ParseJobId(job.job_id()), 0,
                                           std::numeric_limits<int>::max());
  const int64_t stored = steps.ok() ? static_cast<int64_t>(steps->size()) : -1;
  if (stored != job.spec().train().steps()) {
    world_->Violate("job {} did {} steps, of which {} are stored", job.job_id(),
                    job.spec().train().steps(), stored);
  }
}

void Promises::CheckSlots(const SimCoordinator::Core& core) {
  std::map<std::pair<std::string, int32_t>, std::string> held;
  std::map<uint64_t, int> live;
  for (const auto& [id, attempt] : core.supervisor->attempts().all()) {
    const std::string name = FormatAttempt(id.first, id.second);
    if (++live[id.first] > 1) world_->Violate("{} is a second attempt beside another", name);
    for (const auto& rank : attempt.ranks) {
      const auto [it, is_new] = held.emplace(std::pair(rank.worker_id, rank.slot), name);
      if (!is_new) {
        world_->Violate("slot {} of {} is leased to {} and {}", rank.slot, rank.worker_id,
                        it->second, name);
      }
    }
  }
  const v1::ListWorkersResponse workers = core.workers->List(0);
  for (const v1::Worker& worker : workers.workers()) {
    for (const v1::Slot& slot : worker.slots()) {
      const auto it = held.find({worker.worker_id(), slot.index()});
      const std::string holder = it == held.end() ? "" : it->second;
      if (slot.attempt() != holder) {
        world_->Violate("slot {} of {} is held by '{}' and should be by '{}'", slot.index(),
                        worker.worker_id(), slot.attempt(), holder);
      }
    }
  }
}

void Promises::CheckArtefacts(const SimCoordinator::Core& core) {
  for (const std::string& id : jobs_) {
    const v1::JobRecord* record = core.jobs->Find(id);
    if (record == nullptr) continue;
    for (const v1::Artefact* artefact : core.catalog->MadeBy(id)) {
      const std::string reference = coordinator::ArtefactReference(*artefact);
      committed_[reference] = artefact->manifest_crc32c();
      if (!files_->IsWhole(artefact->path(), artefact->manifest_crc32c())) {
        world_->Violate("{} is in the catalogue and {} is not whole", reference, artefact->path());
      }
    }
    const std::string& resume = record->resume_artefact();
    if (!resume.empty() && core.catalog->Find(resume) == nullptr) {
      world_->Violate("job {} would resume from {}, which is not there", id, resume);
    }
    if (resume.empty() && record->job().spec().has_train() && !record->job().outputs().empty()) {
      world_->Violate("job {} has checkpoints and would resume from none", id);
    }
    for (const std::string& output : record->job().outputs()) {
      if (core.catalog->Find(output) == nullptr) {
        world_->Violate("job {} made {}, which is not there", id, output);
      }
    }
  }
}

void Promises::CheckJournals(const SimCoordinator::Core& core) {
  for (const std::string& id : jobs_) {
    const uint64_t job = *coordinator::ParseJobId(id);
    const coordinator::Journal& journal = core.sampler->JournalOf(job);
    std::vector<std::string>& seen = journals_[job];
    if (journal.size() < seen.size()) {
      world_->Violate("job {} had {} decisions on its domain weights, and has {}", id, seen.size(),
                      journal.size());
      continue;
    }
    for (size_t i = 0; i < journal.size(); ++i) {
      const std::string bytes = journal[i].SerializeAsString();
      if (i == seen.size()) {
        seen.push_back(bytes);
      } else if (seen[i] != bytes) {
        world_->Violate("decision {} of job {} has changed", i + 1, id);
      }
    }
  }
}

void Promises::CheckLog(const SimCoordinator::Core& core, const std::string& job, int attempt,
                        int rank, const SimWorker::Log& log) {
  const storage::RankKey key = {*coordinator::ParseJobId(job), attempt, rank};
  std::string stored;
  for (;;) {
    const auto piece = core.store->ReadLog(key, static_cast<int64_t>(stored.size()), 1 << 20);
    if (!piece.ok()) return world_->Violate("{}", piece.status().ToString());
    if (piece->bytes.empty()) break;
    stored += piece->bytes;
  }
  if (!log.text.starts_with(stored) || static_cast<int64_t>(stored.size()) < log.acknowledged) {
    world_->Violate(
        "of the {} bytes of the log of {}.{} rank {}, {} are stored and {} acknowledged",
        log.text.size(), job, attempt, rank, stored.size(), log.acknowledged);
  }
}

void Promises::AtEnd(const SimCoordinator::Core& core) {
  books_.AtEnd(core);
  for (const std::string& id : jobs_) {
    const v1::Job& job = core.jobs->Find(id)->job();
    if (!IsEnded(job.state())) {
      world_->Violate("job {} has not ended: {} {}", id, StateName(job.state()), job.reason());
    }
    const auto problems =
        coordinator::Replay(core.sampler->JournalOf(*coordinator::ParseJobId(id)));
    for (const std::string& problem : problems) {
      world_->Violate("the journal of job {} cannot be replayed: {}", id, problem);
    }
  }
}

}  // namespace moe::simulation
