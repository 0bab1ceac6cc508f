// The queued jobs as the scheduler wants to see them, kept from pass to pass: a pass over a long
// queue costs what has changed, not what waits. Belongs to the loop's thread (coordinator/turn.h).
#pragma once

#include <cstddef>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "coordinator/attempt_table.h"
#include "coordinator/job_table.h"
#include "coordinator/ledger/slot_ledger.h"
#include "coordinator/queues/queue_tree.h"
#include "coordinator/scheduler/schedule.h"
#include "coordinator/scheduler/snapshot.h"
#include "coordinator/supervisor_options.h"

namespace moe::coordinator {

// Who pays: a number for each user of each queue that has had a job since the start.
class AccountBook {
 public:
  AccountBook(const QueueTree* queues, const SlotLedger* ledger)
      : queues_(queues), ledger_(ledger) {}

  int32_t Of(const v1::JobSpec& spec, const std::string& user);
  // All of them, by their numbers.
  std::vector<Account> List(int64_t monotonic_millis) const;

 private:
  const QueueTree* const queues_;
  const SlotLedger* const ledger_;
  std::vector<QueueUsage::Key> keys_;
  std::map<QueueUsage::Key, int32_t> index_;
  // Neighbours in the queue are mostly of one user.
  int32_t last_ = -1;
  std::string last_queue_;
  std::string last_user_;
};

class QueueBook {
 public:
  struct Parts {
    JobTable* jobs = nullptr;  // whose queue changes nobody else takes
    const AttemptTable* attempts = nullptr;
    AccountBook* accounts = nullptr;
  };
  QueueBook(const SupervisorOptions& options, Parts parts) : options_(options), parts_(parts) {}

  // Brings `queue`, always the same one, up to date: the jobs that may start if there is room.
  // Those of them in `owed` are marked.
  void Update(int64_t unix_millis, const std::set<uint64_t>& owed,
              const std::vector<WorkerSlots>& workers, std::vector<QueuedJob>* queue);
  // When the next back-off of a queued job ends, as of the last Update; INT64_MAX for never.
  int64_t next_retry_unix_millis() const { return next_retry_unix_millis_; }

  // Whether this, of the queue of the last Update, is not what was last said of the job.
  bool IsNews(const WaitingJob& waiting);

  // What the spec asks for, by itself.
  static void AddWishes(const v1::JobSpec& spec, QueuedJob* job);
  // Within what time a job that has held slots for so long has ended.
  double BoundSeconds(const v1::JobSpec& spec, int64_t held_millis) const;

 private:
  struct Told {
    WaitCode code = WaitCode::kNoWorker;
    int32_t full_queue = -1;
    size_t sentence = 0;  // its hash: of so many jobs the sentence itself would be much to keep
    bool operator==(const Told&) const = default;
  };

  // How much longer a job's back-off lasts; 0 where there is none.
  int64_t WaitMillis(const v1::JobRecord& record, int64_t unix_millis) const;
  // `numbers` is sorted.
  void Remove(const std::vector<uint64_t>& numbers, std::vector<QueuedJob>* queue);
  void Admit(int64_t unix_millis, std::vector<QueuedJob>* queue);
  void Mark(const std::set<uint64_t>& owed, const std::vector<WorkerSlots>& workers,
            std::vector<QueuedJob>* queue);

  const SupervisorOptions& options_;
  const Parts parts_;
  std::vector<Told> told_;       // beside the queue
  std::set<uint64_t> not_yet_;   // queued, and not in the queue
  std::set<uint64_t> avoiding_;  // in the queue, with workers that they should not get
  bool any_owed_ = false;
  uint64_t newest_ = 0;  // that ever was in the queue
  int64_t next_retry_unix_millis_ = std::numeric_limits<int64_t>::max();
};

}  // namespace moe::coordinator
