#include "coordinator/scheduler/schedule.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <queue>
#include <tuple>
#include <utility>

#include "coordinator/scheduler/queue_use.h"
#include "coordinator/scheduler/slot_pool.h"
#include "coordinator/scheduler/victims.h"

namespace moe::coordinator {
namespace {

std::string Slots(int64_t count) { return fmt::format("{} slot{}", count, count == 1 ? "" : "s"); }

// The place of a job that has no room: what may be started behind it.
struct Reservation {
  const QueuedJob* owner = nullptr;
  int need = 0;
  int32_t queue = 0;
  bool borrows = false;             // it holds nothing against those who are within their quota
  double start_seconds = kNoBound;  // it certainly has room by then
  int64_t spare = 0;                // slots that it leaves over then

  bool IsEndedBefore(const QueuedJob& job) const {
    return start_seconds < kNoBound && job.bound_seconds <= start_seconds;
  }
};

// A queue none of whose jobs starts any more in this pass.
struct QueueBlock {
  const QueuedJob* first = nullptr;  // the job that met the limit
  int32_t full_queue = -1;           // whose limit
};

// Jobs of one priority and one account: first come, first served.
struct Line {
  // A job's place, so that the jobs themselves are looked at once each.
  struct Place {
    uint64_t submit_order = 0;
    size_t index = 0;  // into the queue
  };
  int32_t priority = 0;
  bool owed = false;
  int32_t account = 0;
  std::vector<Place> jobs = {};
  bool in_order = true;
  size_t next = 0;
};

class Pass {
 public:
  Pass(const ScheduleSnapshot& snapshot, const SchedulePolicy& policy)
      : policy_(policy),
        snapshot_(snapshot),
        accounts_(snapshot.accounts),
        pool_(snapshot.workers, snapshot.placed),
        held_(snapshot_.queues),
        due_(snapshot_.queues),
        queue_blocked_(snapshot_.queues.size()),
        taken_(snapshot_.placed.size(), 0) {
    for (const PlacedNow& job : snapshot_.placed) {
      held_.Add(QueueOf(job.account), Width(job));
      if (!job.stopping) due_.Add(QueueOf(job.account), Width(job));
    }
  }

  Schedule Run() {
    schedule_.waiting.reserve(snapshot_.queue.size());
    std::vector<Line> lines = MakeLines();
    const auto rank = [&](const Line& line) {
      const Account& account = AccountOf(line.account);
      const double weight = snapshot_.queues[static_cast<size_t>(account.queue)].weight;
      return std::tuple(!line.owed, -line.priority, account.usage / weight,
                        line.jobs[line.next].submit_order);
    };
    using Entry = std::pair<decltype(rank(lines[0])), Line*>;
    std::priority_queue<Entry, std::vector<Entry>, std::greater<>> order;
    for (Line& line : lines) order.push({rank(line), &line});
    while (!order.empty()) {
      const auto [seen, line] = order.top();
      order.pop();
      const auto now = rank(*line);
      if (now != seen) {  // its account has been charged since
        order.push({now, line});
        continue;
      }
      // On with the line for as long as it comes first.
      do {
        Decide(snapshot_.queue[line->jobs[line->next].index]);
      } while (++line->next < line->jobs.size() &&
               (order.empty() || rank(*line) < order.top().first));
      if (line->next < line->jobs.size()) order.push({rank(*line), line});
    }
    return std::move(schedule_);
  }

 private:
  static int64_t Width(const PlacedNow& job) {
    return static_cast<int64_t>(job.slot_workers.size());
  }
  size_t IndexOf(const QueuedJob& job) const {
    return static_cast<size_t>(&job - snapshot_.queue.data());
  }
  Account& AccountOf(int32_t account) { return accounts_[static_cast<size_t>(account)]; }
  int32_t QueueOf(int32_t account) { return AccountOf(account).queue; }

  std::vector<Line> MakeLines() {
    std::vector<Line> lines;
    std::vector<std::vector<size_t>> lines_of(accounts_.size());  // an account has few
    for (size_t i = 0; i < snapshot_.queue.size(); ++i) {
      const QueuedJob& job = snapshot_.queue[i];
      std::vector<size_t>& candidates = lines_of[static_cast<size_t>(job.account)];
      auto found = std::find_if(candidates.begin(), candidates.end(), [&](size_t line) {
        return lines[line].priority == job.priority && lines[line].owed == job.owed;
      });
      if (found == candidates.end()) {
        found = candidates.insert(found, lines.size());
        lines.push_back({.priority = job.priority, .owed = job.owed, .account = job.account});
      }
      Line& line = lines[*found];
      line.in_order &= line.jobs.empty() || line.jobs.back().submit_order < job.submit_order;
      line.jobs.push_back({job.submit_order, i});
    }
    for (Line& line : lines) {
      if (line.in_order) continue;
      std::sort(line.jobs.begin(), line.jobs.end(), [](const Line::Place& a, const Line::Place& b) {
        return a.submit_order < b.submit_order;
      });
    }
    return lines;
  }

  void Decide(const QueuedJob& job) {
    if (pool_.empty()) return Wait(job, WaitCode::kNoWorker, "no worker is connected");
    const int need = pool_.NeedOf(job);
    const SlotPool::Room room = pool_.RoomFor(need, job);
    if (job.slots > room.total) return Wait(job, WaitCode::kTooWide, TooWide(job, room.total));

    Account& account = AccountOf(job.account);
    QueueBlock& blocked = queue_blocked_[static_cast<size_t>(account.queue)];
    if (blocked.first != nullptr) return WaitBehind(job, *blocked.first, blocked.full_queue);
    const QueueRules& queue = snapshot_.queues[static_cast<size_t>(account.queue)];
    if (const int32_t over = held_.OverLimit(account.queue, job.slots); over >= 0) {
      blocked = {&job, over};
      const QueueRules& rules = snapshot_.queues[static_cast<size_t>(over)];
      return Wait(
          job, WaitCode::kQueueLimit,
          fmt::format("needs {}; queue '{}' may use {}", Slots(job.slots), rules.name, rules.limit),
          over);
    }
    const bool entitled = due_.IsEntitled(account.queue, job.slots);
    if (!entitled && pool_.free() >= job.slots &&
        pool_.free() - job.slots < due_.KeptByOthers(account.queue)) {
      blocked = {&job, account.queue};
      return Wait(job, WaitCode::kQuotaInUse,
                  fmt::format("queue '{}' has used its quota of {}, and other queues do not lend "
                              "what is idle",
                              queue.name, Slots(queue.quota)),
                  account.queue);
    }
    Reservation* const first = InTheWayOf(job, need, room.free, entitled);
    if (first != nullptr) return JoinOrWait(job, need, *first);
    if (job.slots > room.free) return Block(job, need, room.free);

    schedule_.placed.push_back({job.job_id, pool_.Take(need, job)});
    held_.Add(account.queue, job.slots);
    due_.Add(account.queue, job.slots);
    account.usage += job.slots * policy_.charge_seconds;
    for (Reservation& reservation : reservations_) {
      if (!reservation.IsEndedBefore(job) && pool_.Overlap(reservation.need, need)) {
        reservation.spare -= job.slots;
      }
    }
  }

  // The reservation that this job would delay; null: none.
  Reservation* InTheWayOf(const QueuedJob& job, int need, int64_t free, bool entitled) {
    const int32_t queue = QueueOf(job.account);
    for (Reservation& reservation : reservations_) {
      if (!pool_.Overlap(reservation.need, need) || reservation.IsEndedBefore(job)) continue;
      if (entitled && reservation.borrows && reservation.queue != queue) continue;
      if (job.slots > reservation.spare || job.slots > free) return &reservation;
    }
    return nullptr;
  }

  // Where the one in front has its room by pre-emption, the job behind may make room as well: jobs
  // of one priority do not wait for each other's victims.
  void JoinOrWait(const QueuedJob& job, int need, Reservation& first) {
    const int64_t missing = job.slots + KeptFrom(job) - std::max<int64_t>(0, first.spare);
    if (first.need == need && first.start_seconds == 0 && missing > 0) {
      std::string taken_from;
      if (const int64_t freed = Preempt(job, need, missing, &taken_from); freed > 0) {
        first.spare += freed - job.slots;
        due_.Add(QueueOf(job.account), job.slots);
        return Wait(job, WaitCode::kNoRoom, WaitsFor(job) + taken_from);
      }
    }
    WaitBehind(job, *first.owner);
  }

  // Idle slots that are no room for this job: other queues keep them.
  int64_t KeptFrom(const QueuedJob& job) {
    const int32_t queue = QueueOf(job.account);
    return due_.IsEntitled(queue, job.slots) ? 0 : due_.KeptByOthers(queue);
  }

  // Stops whom it may; how many slots that frees, 0 where it could not free enough.
  int64_t Preempt(const QueuedJob& job, int need, int64_t missing, std::string* taken_from) {
    if (!policy_.preempt || preemptors_ >= policy_.max_preemptors) return 0;
    ++preemptors_;
    const Victims victims =
        ChooseVictims(snapshot_, policy_, pool_, due_, job, need, missing, taken_);
    double& next = schedule_.next_preemption_seconds;
    if (victims.wait_seconds >= 0 && (next < 0 || victims.wait_seconds < next)) {
      next = victims.wait_seconds;
    }
    if (victims.jobs.empty()) return 0;
    std::vector<std::string> ids;
    for (const size_t i : victims.jobs) {
      const PlacedNow& victim = snapshot_.placed[i];
      taken_[i] = 1;
      due_.Add(QueueOf(victim.account), -Width(victim));
      schedule_.preempted.push_back({victim.job_id, job.job_id, LostSlotSeconds(victim)});
      ids.push_back(victim.job_id);
    }
    *taken_from = fmt::format(", and takes them from {}", fmt::join(ids, ", "));
    return victims.freed;
  }

  // `free`: slots that the job could have now, which are too few.
  void Block(const QueuedJob& job, int need, int64_t free) {
    int64_t missing = job.slots + KeptFrom(job) - free;
    for (size_t i = 0; i < snapshot_.placed.size(); ++i) {
      if (snapshot_.placed[i].stopping) missing -= pool_.CountHeld(need, i);
    }
    std::string taken_from;
    if (missing > 0) missing -= Preempt(job, need, missing, &taken_from);
    Reservation reservation{.need = need, .start_seconds = 0, .spare = -missing};
    if (missing > 0) reservation = ReserveByBounds(need, missing);
    reservation.owner = &job;
    reservation.queue = QueueOf(job.account);
    reservation.borrows = !due_.IsEntitled(reservation.queue, job.slots);
    if (missing <= 0) due_.Add(reservation.queue, job.slots);
    reservations_.push_back(reservation);
    Wait(job, WaitCode::kNoRoom, WaitsFor(job) + taken_from);
    // At 0 the slots become free as soon as those who hold them have stopped.
    if (reservation.start_seconds > 0) {
      schedule_.waiting.back().start_by_seconds = reservation.start_seconds;
    }
  }

  // When the running jobs' own limits will have freed `missing` slots.
  Reservation ReserveByBounds(int need, int64_t missing) const {
    std::vector<std::pair<double, int64_t>> ends;
    for (size_t i = 0; i < snapshot_.placed.size(); ++i) {
      const PlacedNow& placed = snapshot_.placed[i];
      if (placed.stopping || taken_[i] != 0 || placed.bound_seconds == kNoBound) continue;
      ends.emplace_back(placed.bound_seconds, pool_.CountHeld(need, i));
    }
    std::sort(ends.begin(), ends.end());
    for (const auto& [seconds, slots] : ends) {
      missing -= slots;
      if (missing <= 0) return {.need = need, .start_seconds = seconds, .spare = -missing};
    }
    return {.need = need, .start_seconds = kNoBound, .spare = 0};
  }

  static std::string WaitsFor(const QueuedJob& job) {
    return fmt::format("waits for {} to become free", Slots(job.slots));
  }

  static std::string TooWide(const QueuedJob& job, int64_t total) {
    std::string kind;
    if (!job.device.empty()) kind += fmt::format(" on '{}'", job.device);
    if (job.memory_bytes > 0) {
      kind += fmt::format(" with {:.1f} GiB each",
                          static_cast<double>(job.memory_bytes) / (1024.0 * 1024 * 1024));
    }
    if (!job.excluded_workers.empty()) {
      kind += fmt::format(" outside {}", fmt::join(job.excluded_workers, ", "));
    }
    return fmt::format("needs {}{}; all connected workers together have {}", Slots(job.slots), kind,
                       total);
  }

  void Wait(const QueuedJob& job, WaitCode code, std::string reason, int32_t full_queue = -1) {
    schedule_.waiting.push_back({.job_id = job.job_id,
                                 .index = IndexOf(job),
                                 .reason = std::move(reason),
                                 .code = code,
                                 .full_queue = full_queue});
  }
  void WaitBehind(const QueuedJob& job, const QueuedJob& first, int32_t full_queue = -1) {
    schedule_.waiting.push_back({.job_id = job.job_id,
                                 .index = IndexOf(job),
                                 .reason = "waits its turn",
                                 .code = WaitCode::kTurn,
                                 .behind = first.job_id,
                                 .full_queue = full_queue});
  }

  const SchedulePolicy& policy_;
  const ScheduleSnapshot& snapshot_;
  std::vector<Account> accounts_;
  SlotPool pool_;
  QueueUse held_;  // what limits count: also by jobs that are stopping
  QueueUse due_;   // what quotas count: without those, and with who gets their slots
  std::vector<QueueBlock> queue_blocked_;
  std::vector<char> taken_;                // of `placed`: victims of this pass
  std::vector<Reservation> reservations_;  // of kinds of slots that do not overlap, mostly
  int preemptors_ = 0;
  Schedule schedule_;
};

}  // namespace

Schedule PlanSchedule(const ScheduleSnapshot& snapshot, const SchedulePolicy& policy) {
  return Pass(snapshot, policy).Run();
}

}  // namespace moe::coordinator
