#include "tests/simulation/faults.h"

#include <functional>
#include <utility>

namespace moe::simulation {

void Faults::Plan(int count, int64_t within_ms) {
  for (int i = 0; i < count; ++i) {
    parts_.world->time.After(parts_.world->random.Between(0, within_ms), [this] { Happen(); });
  }
}

void Faults::Later(int64_t millis, std::function<void()> undo) {
  parts_.world->time.After(millis, [this, undo = std::move(undo)] {
    if (!over_) undo();
  });
}

void Faults::Happen() {
  if (over_) return;
  SimWorker& worker = *parts_.world->random.Pick(*parts_.workers);
  switch (parts_.world->random.Between(0, 9)) {
    case 0:
    case 1:
      return OfCoordinator();
    case 2:
      return OfDisk();
    case 3:
    case 4:
      return OfWorker(worker);
    case 5:
    case 6:
    case 7:
      return OfPath(worker);
    default:
      return OfRank();
  }
}

void Faults::OfCoordinator() {
  Random& random = parts_.world->random;
  SimCoordinator& coordinator = *parts_.coordinator;
  switch (random.Between(0, 4)) {
    case 0:
      return coordinator.Kill(Outage::kProcess);
    case 1:
      return coordinator.Kill(Outage::kPower);
    case 2:
      parts_.world->Note("the coordinator is to die after its next commit");
      return coordinator.KillAfterNextCommit();
    case 3:
      parts_.world->Note("the coordinator is to die among its answers");
      return coordinator.KillAfterSends(random.Between(1, 6));
    default: {
      const int64_t millis = random.Between(-7'200'000, 7'200'000);
      parts_.world->Note("the coordinator's wall clock jumps by {} s", millis / 1000);
      return coordinator.clock().Jump(millis);
    }
  }
}

void Faults::OfDisk() {
  Random& random = parts_.world->random;
  SimCoordinator* coordinator = parts_.coordinator;
  switch (random.Between(0, 2)) {
    case 0: {
      const int64_t changes = random.Between(0, 9);
      parts_.world->Note("the disk fails after {} changes", changes);
      return coordinator->KillAtDiskChange(changes);
    }
    case 1:
      parts_.world->Note("the disk is full");
      coordinator->SetDiskFull(true);
      return Later(random.Between(1000, 30'000),
                   [coordinator] { coordinator->SetDiskFull(false); });
    default:
      parts_.world->Note("the coordinator is slow");
      coordinator->set_slow(true);
      return Later(random.Between(1000, 60'000), [coordinator] { coordinator->set_slow(false); });
  }
}

void Faults::OfWorker(SimWorker& worker) {
  Random& random = parts_.world->random;
  switch (random.Between(0, 3)) {
    case 0:
    case 1:
      worker.KillDaemon();
      return Later(random.Between(100, 90'000), [&worker] { worker.StartDaemon(); });
    case 2:
      worker.KillMachine(random.OneIn(3));
      return Later(random.Between(1000, 90'000), [&worker] { worker.StartDaemon(); });
    default:
      worker.clock().Jump(random.Between(-7'200'000, 7'200'000));
      return;
  }
}

void Faults::OfPath(SimWorker& worker) {
  Random& random = parts_.world->random;
  Path& path = worker.path();
  switch (random.Between(0, 5)) {
    case 0:
      parts_.world->Note("nothing comes from {}", worker.id());
      path.up_blocked = true;
      break;
    case 1:
      parts_.world->Note("nothing comes to {}", worker.id());
      path.down_blocked = true;
      break;
    case 2:
      parts_.world->Note("{} is cut off", worker.id());
      path.up_blocked = path.down_blocked = true;
      break;
    case 3:
      parts_.world->Note("the way to {} is slow", worker.id());
      path.max_delay_ms = 8000;
      break;
    case 4:
      parts_.world->Note("nothing is to come from {} after its next start", worker.id());
      path.up_blocked_from_start = true;
      break;
    default:
      parts_.world->Note("the connection of {} breaks", worker.id());
      return worker.BreakConnection();
  }
  Later(random.Between(500, 90'000), [&path] { path = Path{}; });
}

void Faults::OfRank() {
  if (parts_.registry->alive().empty()) return;
  SimRank& rank = *parts_.world->random.Pick(parts_.registry->alive()).rank;
  if (!parts_.world->random.OneIn(3)) return rank.Kill(11);
  rank.Hang();
  // Nobody but a user stops a rank that hangs.
  const auto weak = rank.weak_from_this();
  Later(parts_.world->random.Between(5000, 200'000), [weak] {
    if (const auto still = weak.lock()) still->Kill(9);
  });
}

void Faults::EndAll() {
  over_ = true;
  parts_.world->Note("all faults are over");
  parts_.coordinator->SetDiskFull(false);
  parts_.coordinator->set_slow(false);
  for (const auto& worker : *parts_.workers) {
    worker->path() = Path{};
    worker->StartDaemon();
  }
  const std::vector<RankRegistry::Entry> alive = parts_.registry->alive();
  for (const RankRegistry::Entry& entry : alive) {
    if (entry.rank->hung()) entry.rank->Kill(9);
  }
}

}  // namespace moe::simulation
