// What the scheduler decides upon: plain facts, taken at one moment.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <vector>

namespace moe::coordinator {

inline constexpr double kNoBound = std::numeric_limits<double>::infinity();

struct QueuedJob {
  std::string job_id = {};
  int32_t priority = 0;
  uint64_t submit_order = 0;  // unique
  int32_t slots = 1;
  std::string device = {};   // of every slot; empty: any
  int64_t memory_bytes = 0;  // of every slot, at least
  int32_t account = 0;       // into ScheduleSnapshot::accounts
  double bound_seconds = kNoBound;
  bool owed = false;  // others were stopped for it: it comes before all that are not owed
  std::vector<std::string> excluded_workers = {};
};

// The slots of one worker that are alike. A worker with slots of two kinds comes twice.
struct WorkerSlots {
  std::string worker_id = {};
  int32_t total = 0;
  std::vector<int32_t> free = {};  // indices, ascending
  std::string device = {};
  int64_t memory_bytes = 0;  // of each slot
};

// A job that holds slots.
struct PlacedNow {
  std::string job_id = {};
  int32_t priority = 0;
  bool preemptible = true;
  bool stopping = false;                       // its slots become free without anybody's doing
  double running_seconds = 0;                  // of this attempt
  double lost_work_seconds = 0;                // what would have to be done again
  std::vector<std::string> slot_workers = {};  // the worker of each of its slots
  int32_t account = 0;
  double restore_seconds = 0;       // what starting again costs
  double bound_seconds = kNoBound;  // from now: it has ended by then
};

// A queue. Jobs count for their queue and for every queue above it.
struct QueueRules {
  std::string name = {};
  int32_t parent = -1;                                  // into the same list; -1: none
  int64_t quota = 0;                                    // slots that it is entitled to
  int64_t limit = std::numeric_limits<int64_t>::max();  // slots that it never exceeds
  int64_t lends = std::numeric_limits<int64_t>::max();  // of its idle quota, to other queues
  double weight = 1;                                    // its share beside others'
};

// Who pays for a job: one user in one queue.
struct Account {
  int32_t queue = 0;  // into ScheduleSnapshot::queues
  double usage = 0;   // slot-seconds of late (fair_share.h)
};

struct ScheduleSnapshot {
  std::vector<QueuedJob> queue = {};      // in any order
  std::vector<WorkerSlots> workers = {};  // those that can be given work now
  std::vector<PlacedNow> placed = {};     // in any order
  std::vector<QueueRules> queues = {QueueRules{.name = "default"}};
  std::vector<Account> accounts = {Account{}};
};

struct SchedulePolicy {
  bool preempt = true;
  double minimum_run_seconds = 30;  // an attempt is left alone for so long
  // What a job that starts is taken to cost its account, until it is known: slot-seconds per slot.
  double charge_seconds = 600;
  // For how many blocked jobs of one pass others may be stopped.
  int max_preemptors = 16;
};

}  // namespace moe::coordinator
