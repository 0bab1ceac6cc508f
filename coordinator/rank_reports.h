// What ranks say: their reports, applied in order and each at most once; their logs; their ends;
// and the artefacts that they wrote, checked before they are catalogued. Belongs to the loop's
// thread (coordinator/turn.h).
//
// Everything is fenced by the attempt: what belongs to none that lives on the sending worker is
// void and answered with ForgetAttempt, and an attempt that has ended can change nothing but its
// own logs.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "coordinator/artefact_files.h"
#include "coordinator/attempt_ends.h"
#include "coordinator/attempt_table.h"
#include "coordinator/job_table.h"
#include "coordinator/ledger/slot_ledger.h"
#include "coordinator/log_followers.h"
#include "coordinator/outputs.h"
#include "coordinator/sampler/domain_sampler.h"
#include "coordinator/supervisor_observer.h"
#include "coordinator/turn.h"
#include "coordinator/worker_messages.h"
#include "coordinator/worker_registry.h"
#include "moe/v1/worker_service.pb.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

class RankReports {
 public:
  struct Parts {
    const storage::Store* store = nullptr;
    AttemptTable* attempts = nullptr;
    AttemptEnds* ends = nullptr;
    JobTable* jobs = nullptr;
    DomainSampler* sampler = nullptr;
    Outputs* outputs = nullptr;
    WorkerRegistry* workers = nullptr;
    WorkerMessages* messages = nullptr;
    const ArtefactFiles* files = nullptr;
    FileWork* file_work = nullptr;
    TurnQueue* queue = nullptr;  // for coming back from file work
    LogFollowers* log_followers = nullptr;
    SlotLedger* ledger = nullptr;
    SupervisorObserver* observer = nullptr;
  };
  explicit RankReports(Parts parts) : parts_(parts) {}

  // An error ends the worker's stream; it then registers again and learns what is durable.
  absl::Status OnReports(Turn& turn, const std::string& worker_id, const v1::ReportBatch& batch);
  absl::Status OnLog(Turn& turn, const std::string& worker_id, const v1::LogChunk& chunk);
  void OnRankExited(Turn& turn, const std::string& worker_id, const v1::RankExited& exited);

 private:
  Attempt* FindOrForget(Turn& turn, const v1::AttemptRef& ref, int32_t rank,
                        const std::string& worker_id);
  v1::JobRecord& JobOf(const Attempt& attempt) { return parts_.attempts->JobOf(attempt); }

  // Applies what is pending of a rank, until it has to wait for a check.
  void Drain(Turn& turn, Attempt& attempt, int32_t rank);
  void Apply(Turn& turn, Attempt& attempt, int32_t rank, const v1::RankReport& report);
  // The last words of a rank; false for any other report.
  static bool ApplyFinal(Attempt& attempt, int32_t rank, const v1::RankReport& report);
  void ApplyStarted(Turn& turn, Attempt& attempt, int32_t rank, const v1::RankStarted& started);
  void ApplyProgress(Turn& turn, Attempt& attempt, v1::JobProgress progress);
  void ApplyStep(Turn& turn, Attempt& attempt, const v1::StepReport& step);
  void ApplyDomainLosses(Turn& turn, Attempt& attempt, const v1::DomainLosses& losses);
  void ApplyRendezvous(Turn& turn, Attempt& attempt, const v1::RendezvousPut& put);
  void ApplyExit(Turn& turn, Attempt& attempt, int32_t rank);

  void CheckArtefact(Turn& turn, Attempt& attempt, int32_t rank, const v1::RankReport& report);
  void DecideOnArtefact(Turn& turn, const AttemptId& id, int32_t rank, const v1::RankReport& report,
                        const absl::Status& checked);

  const Parts parts_;
};

}  // namespace moe::coordinator
