#include "tests/simulation/simulation.h"

#include <fmt/format.h>

#include <memory>
#include <vector>

#include "coordinator/job_state.h"
#include "tests/simulation/faults.h"
#include "tests/simulation/promises.h"
#include "tests/simulation/rank_registry.h"
#include "tests/simulation/sim_coordinator.h"
#include "tests/simulation/sim_files.h"
#include "tests/simulation/sim_worker.h"
#include "tests/simulation/users.h"
#include "tests/simulation/watcher.h"
#include "tests/simulation/world.h"

namespace moe::simulation {
namespace {

// How long things go wrong, and how long everything may take to end once they do not any more.
constexpr int64_t kTroubleMillis = 300'000;
constexpr int64_t kPeaceMillis = 7'200'000;
constexpr int64_t kLookMillis = 2000;

class Simulation {
 public:
  explicit Simulation(const Options& options)
      : world_(options.seed, options.bug, options.print),
        files_(&world_),
        registry_(&world_),
        promises_(&world_, &files_),
        coordinator_(
            &world_, &files_, options.seed,
            {.on_start =
                 [this](const SimCoordinator::Core& core) {
                   ++starts_;
                   promises_.OnStart(core);
                 },
             .after_turn = [this](const SimCoordinator::Core& core) { promises_.AfterTurn(core); },
             .on_replay_mismatch =
                 [this](const std::string& job) {
                   world_.Violate("job {} did not repeat itself", job);
                 }}),
        users_(&world_, &coordinator_, &promises_),
        watcher_(&world_, &coordinator_),
        faults_({.world = &world_,
                 .coordinator = &coordinator_,
                 .registry = &registry_,
                 .workers = &workers_}) {}

  Outcome Run() {
    const auto count = static_cast<int>(world_.random.Between(1, 3));
    for (int i = 1; i <= count; ++i) {
      // One of them at least can hold the widest job.
      const int slots = i == 1 ? 2 : static_cast<int>(world_.random.Between(1, 3));
      workers_.push_back(std::make_unique<SimWorker>(&world_, &coordinator_, &files_, &registry_,
                                                     fmt::format("w{}", i), slots));
    }
    coordinator_.Start();
    for (const auto& worker : workers_) worker->StartDaemon();
    std::vector<std::string> names;
    for (const auto& worker : workers_) names.push_back(worker->id());
    users_.Begin({.pipelines = static_cast<int>(world_.random.Between(1, 5)),
                  .wishes = static_cast<int>(world_.random.Between(0, 12)),
                  .drains = static_cast<int>(world_.random.Between(0, 6)),
                  .workers = names},
                 kTroubleMillis * 3 / 4);
    watcher_.Begin();
    faults_.Plan(static_cast<int>(world_.random.Between(0, 25)), kTroubleMillis);
    world_.time.After(kTroubleMillis, [this] {
      faults_.EndAll();
      LookForTheEnd();
    });

    while (!done_ && !world_.violation.has_value() && world_.time.RunNext()) {
    }
    if (!done_ && !world_.violation.has_value()) world_.Violate("nothing happens any more");
    return {.hash = world_.history.hash(),
            .events = world_.history.lines(),
            .millis = world_.time.now(),
            .starts = starts_,
            .violation = world_.violation};
  }

 private:
  // Once users have their answers, holds are released and jobs have ended, everything is compared.
  void LookForTheEnd() {
    users_.ReleaseAll();
    coordinator_.Read([this](const SimCoordinator::Core& core) {
      const bool out_of_time = world_.time.now() > kTroubleMillis + kPeaceMillis;
      bool all_ended = true;
      for (const std::string& id : promises_.jobs()) {
        const v1::JobRecord* record = core.jobs->Find(id);
        all_ended &= record != nullptr && coordinator::IsEnded(record->job().state());
      }
      const bool quiet = registry_.alive().empty() && core.supervisor->attempts().all().empty();
      const bool told = users_.all_answered() && watcher_.is_connected();
      if (!out_of_time && !(all_ended && quiet && told)) return;
      if (!quiet) world_.Violate("ranks or attempts are left");
      promises_.AtEnd(core);
      watcher_.CheckComplete(core);
      for (const auto& worker : workers_) {
        worker->ForEachLog(
            [&](const std::string& job, int attempt, int rank, const SimWorker::Log& log) {
              promises_.CheckLog(core, job, attempt, rank, log);
            });
      }
      done_ = true;
    });
    world_.time.After(kLookMillis, [this] { LookForTheEnd(); });
  }

  World world_;
  SimFiles files_;
  RankRegistry registry_;
  Promises promises_;
  SimCoordinator coordinator_;
  std::vector<std::unique_ptr<SimWorker>> workers_;
  Users users_;
  Watcher watcher_;
  Faults faults_;
  int starts_ = 0;
  bool done_ = false;
};

}  // namespace

Outcome Simulate(const Options& options) { return Simulation(options).Run(); }

}  // namespace moe::simulation
