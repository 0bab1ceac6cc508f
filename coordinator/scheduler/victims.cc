#include "coordinator/scheduler/victims.h"

#include <algorithm>
#include <tuple>

namespace moe::coordinator {
namespace {

struct Candidate {
  size_t index = 0;
  int64_t slots = 0;  // that help
  double loss = 0;
};

class MayTake {
 public:
  MayTake(const ScheduleSnapshot& snapshot, const QueueUse& use, const QueuedJob& job)
      : snapshot_(snapshot),
        use_(use),
        priority_(job.priority),
        queue_(QueueOf(job.account)),
        entitled_(use.IsEntitled(queue_, job.slots)) {}

  bool operator()(const PlacedNow& victim) const {
    const int32_t other = QueueOf(victim.account);
    const bool lower = victim.priority < priority_;
    if (other == queue_) return lower;
    if (entitled_) return lower || use_.Borrows(other);
    return lower && use_.IsBeyondQuotaWithout(other, victim.slot_workers.size());
  }
  int32_t QueueOf(int32_t account) const {
    return snapshot_.accounts[static_cast<size_t>(account)].queue;
  }

 private:
  const ScheduleSnapshot& snapshot_;
  const QueueUse& use_;
  const int32_t priority_;
  const int32_t queue_;
  const bool entitled_;
};

}  // namespace

double LostSlotSeconds(const PlacedNow& job) {
  return static_cast<double>(job.slot_workers.size()) *
         (job.lost_work_seconds + job.restore_seconds);
}

Victims ChooseVictims(const ScheduleSnapshot& snapshot, const SchedulePolicy& policy,
                      const SlotPool& pool, const QueueUse& use, const QueuedJob& job, int need,
                      int64_t missing, const std::vector<char>& taken) {
  const MayTake may_take(snapshot, use, job);
  std::vector<Candidate> candidates;
  int64_t sometime = 0;  // slots, minimum run times aside
  Victims victims;
  for (size_t i = 0; i < snapshot.placed.size(); ++i) {
    const PlacedNow& placed = snapshot.placed[i];
    if (placed.stopping || taken[i] != 0 || !placed.preemptible || !may_take(placed)) continue;
    if (std::any_of(job.excluded_workers.begin(), job.excluded_workers.end(),
                    [&](const std::string& worker) {
                      return std::count(placed.slot_workers.begin(), placed.slot_workers.end(),
                                        worker) > 0;
                    })) {
      continue;
    }
    const int64_t slots = pool.CountHeld(need, i);
    if (slots == 0) continue;
    sometime += slots;
    if (placed.running_seconds >= policy.minimum_run_seconds) {
      candidates.push_back({i, slots, LostSlotSeconds(placed)});
      continue;
    }
    const double wait = policy.minimum_run_seconds - placed.running_seconds;
    if (victims.wait_seconds < 0 || wait < victims.wait_seconds) victims.wait_seconds = wait;
  }
  if (sometime < missing) return {};

  // A heap: of many candidates few are taken.
  const auto dearer = [&](const Candidate& a, const Candidate& b) {
    const PlacedNow& first = snapshot.placed[a.index];
    const PlacedNow& second = snapshot.placed[b.index];
    return std::tie(first.priority, a.loss, first.running_seconds, first.job_id) >
           std::tie(second.priority, b.loss, second.running_seconds, second.job_id);
  };
  std::make_heap(candidates.begin(), candidates.end(), dearer);
  // A queue that is beyond its quota only by the job's doing is not asked for more than that.
  QueueUse left = use;
  const MayTake still(snapshot, left, job);
  std::vector<Candidate> chosen;
  while (victims.freed < missing && !candidates.empty()) {
    std::pop_heap(candidates.begin(), candidates.end(), dearer);
    const Candidate candidate = candidates.back();
    candidates.pop_back();
    const PlacedNow& placed = snapshot.placed[candidate.index];
    if (!still(placed)) continue;
    chosen.push_back(candidate);
    victims.freed += candidate.slots;
    left.Add(still.QueueOf(placed.account), -static_cast<int64_t>(placed.slot_workers.size()));
  }
  if (victims.freed < missing)
    return {.jobs = {}, .freed = 0, .wait_seconds = victims.wait_seconds};
  // Who turned out not to be needed goes on, the dearest first.
  for (auto it = chosen.end(); it != chosen.begin();) {
    --it;
    if (victims.freed - it->slots < missing) continue;
    victims.freed -= it->slots;
    it = chosen.erase(it);
  }
  for (const Candidate& candidate : chosen) victims.jobs.push_back(candidate.index);
  victims.wait_seconds = -1;
  return victims;
}

}  // namespace moe::coordinator
