// The coordinator's process: its real state code over the simulated disk, clock and streams. It is
// killed and started again as often as the simulation likes.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/clock.h"
#include "coordinator/audit_journal.h"
#include "coordinator/catalog.h"
#include "coordinator/job_table.h"
#include "coordinator/sampler/domain_sampler.h"
#include "coordinator/session_inbox.h"
#include "coordinator/supervisor.h"
#include "coordinator/turn_runner.h"
#include "coordinator/worker_registry.h"
#include "storage/rocks/store.h"
#include "tests/simulation/network.h"
#include "tests/simulation/sim_disk.h"
#include "tests/simulation/sim_files.h"
#include "tests/simulation/world.h"

namespace moe::simulation {

class SimCoordinator {
 public:
  // What runs, while it runs.
  struct Core {
    storage::Store* store = nullptr;
    coordinator::JobTable* jobs = nullptr;
    coordinator::Catalog* catalog = nullptr;
    coordinator::DomainSampler* sampler = nullptr;
    coordinator::WorkerRegistry* workers = nullptr;
    coordinator::Supervisor* supervisor = nullptr;
    coordinator::AuditJournal* audit = nullptr;
    const Clock* clock = nullptr;
  };
  struct Observer {
    std::function<void(const Core&)> on_start;    // it has loaded what is durable
    std::function<void(const Core&)> after_turn;  // a group of changes is durable
    std::function<void(const std::string& job)> on_replay_mismatch;
  };

  SimCoordinator(World* world, SimFiles* files, uint64_t seed, Observer observer);
  ~SimCoordinator();

  // Tries to start now, and again later where the disk does not let it.
  void Start();
  void Kill(Outage outage);
  // It dies at the disk's next changes but so many.
  void KillAtDiskChange(int64_t changes) { disk_.FailAfter(changes); }
  // It dies at its next commit, which is durable and which nobody will hear of.
  void KillAfterNextCommit() { dies_after_commit_ = true; }
  // It dies when it has sent so many messages more.
  void KillAfterSends(int64_t sends) { sends_left_ = sends; }
  void SetDiskFull(bool full) { disk_.SetFull(full); }
  void set_slow(bool slow) { slow_ = slow; }

  bool up() const { return process_ != nullptr; }
  // Another one after every start and every end.
  int64_t incarnation() const { return incarnation_; }
  MachineClock& clock() { return clock_; }
  // For users: dropped where it does not run, or dies before it comes to it.
  void Change(const std::function<void(coordinator::Turn&, const Core&)>& change);
  void Read(const std::function<void(const Core&)>& read);

  // A worker's stream; what it does afterwards is void once this process has died.
  void Accept(const std::shared_ptr<Connection>& connection);
  void Deliver(const std::shared_ptr<Connection>& connection, const v1::SessionRequest& message);
  void Closed(const std::shared_ptr<Connection>& connection);

 private:
  class Session;
  struct Process;

  absl::Status TryStart();
  Outage DrawOutage();
  void BeforeCommit(coordinator::Turn& turn);
  absl::Status Commit(const storage::Batch& batch);
  void PlanTurn(int64_t delay_ms);
  void RunTurn();
  void PlanFileWork();

  World* const world_;
  SimFiles* const files_;
  const Observer observer_;
  MachineClock clock_;
  SimDisk disk_;
  std::unique_ptr<Process> process_;
  int64_t incarnation_ = 0;
  bool dies_after_commit_ = false;
  int64_t sends_left_ = -1;
  bool slow_ = false;
};

}  // namespace moe::simulation
