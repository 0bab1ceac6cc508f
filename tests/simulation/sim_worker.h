// A node: a machine with a worker daemon, which is restarted now and then, and the ranks that
// outlive it. The daemon follows the protocol of worker_service.proto as worker/daemon does, with
// events where that has files, polls and threads.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "moe/v1/worker_service.pb.h"
#include "tests/simulation/network.h"
#include "tests/simulation/rank_registry.h"
#include "tests/simulation/sim_coordinator.h"
#include "tests/simulation/sim_files.h"
#include "tests/simulation/sim_rank.h"
#include "tests/simulation/world.h"

namespace moe::simulation {

class SimWorker {
 public:
  SimWorker(World* world, SimCoordinator* coordinator, SimFiles* files, RankRegistry* registry,
            std::string id, int slots);
  ~SimWorker();

  void StartDaemon();
  // Its ranks go on.
  void KillDaemon();
  // The daemon and the ranks; the run folders stay, or are lost as well.
  void KillMachine(bool folders_lost);
  void BreakConnection();

  const std::string& id() const { return id_; }
  Path& path() { return path_; }
  MachineClock& clock() { return clock_; }
  // Everything that ranks have ever logged here, and how much of it was acknowledged.
  struct Log {
    std::string text;
    int64_t acknowledged = 0;
  };
  void ForEachLog(const std::function<void(const std::string& job, int attempt, int rank,
                                           const Log& log)>& visit) const;

 private:
  using Key = std::pair<std::string, int>;  // job, attempt

  // On disk.
  struct RankFolder {
    std::vector<v1::RankReport> reports;
    std::string log;
    bool started = false;
    std::optional<std::pair<int, int>> exit;  // code and signal
    std::shared_ptr<SimRank> process;         // not on disk: the process, if it is alive
  };
  struct RunFolder {
    std::map<int, RankFolder> ranks;
  };
  // In the daemon's memory.
  struct Relay {
    int64_t next_report = 1;
    int64_t next_log = 0;
    bool exit_sent = false;
  };
  struct Supervised {
    bool relayed = false;
    bool forgotten = false;
    int64_t kill_generation = 0;
    std::optional<int64_t> kill_at_ms;
    std::map<int, Relay> ranks;
  };
  struct Daemon {
    std::shared_ptr<Connection> connection;  // null between sessions
    bool accepted = false;
    int64_t registered_ms = 0;
    int64_t last_heard_ms = 0;
    int64_t silence_limit_ms = 10'000;
    int64_t lease_ttl_ms = 0;
    int64_t heartbeat_interval_ms = 0;
    int64_t heartbeat_seq = 0;
    std::map<int64_t, int64_t> heartbeat_sent_ms;
    int64_t lease_until_ms = 0;
    bool lease_renewed = false;
    int64_t backoff_ms = 200;
    std::map<Key, Supervised> attempts;
  };

  // `event` happens unless the daemon has been killed by then.
  void AfterIfUp(int64_t millis, std::function<void()> event);
  void AfterInSession(int64_t millis, std::function<void()> event);
  void Connect();
  void Reconnect(const std::string& why);
  void Pulse();
  void Receive(const v1::SessionResponse& message);
  void Accepted(const v1::Registered& registered);
  void RenewLease(int64_t until_ms);
  void Enforce();
  void Start(const v1::StartAttempt& order);
  void StartRank(const Key& key, const v1::RankPlacement& placement, const std::string& run_spec);
  void Stop(const v1::StopAttempt& order);
  void Forget(const Key& key);
  void RemoveForgotten();
  void Command(const v1::RankCommand& command);
  void RelayRank(const Key& key, int rank);
  void Exited(const Key& key, int rank, int exit_code, int signal);
  // Sent, and one time in a few sent twice.
  void Send(v1::SessionRequest message);
  void ForEachProcess(const Key& key, const std::function<void(int, SimRank&)>& visit);

  World* const world_;
  SimCoordinator* const coordinator_;
  SimFiles* const files_;
  RankRegistry* const registry_;
  const std::string id_;
  const int slots_;
  MachineClock clock_;
  Path path_;
  std::map<Key, RunFolder> folders_;
  std::map<std::pair<Key, int>, Log> logs_;  // also of folders that are gone
  std::optional<Daemon> daemon_;
  int64_t incarnation_ = 0;
  int64_t session_ = 0;
};

}  // namespace moe::simulation
