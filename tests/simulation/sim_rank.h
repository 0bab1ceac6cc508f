// A rank's process: does the work of its kind with the protocol of docs/formats/run-folder.md,
// obeys its lease, crashes and hangs when it is told to by the simulation.
//
// The loss of a step is a function of the job, the step and the domain weights alone, as training
// that resumes exactly would have it: the coordinator notices where a step is not repeated.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "common/clock.h"
#include "common/json.h"
#include "moe/v1/report.pb.h"
#include "tests/simulation/rank_registry.h"
#include "tests/simulation/sim_files.h"
#include "tests/simulation/world.h"

namespace moe::simulation {

class SimRank : public std::enable_shared_from_this<SimRank> {
 public:
  // What it leaves in its folder, which it outlives or does not.
  struct Folder {
    std::function<void(v1::RankReport)> report;
    std::function<void(const std::string&)> log;
    std::function<void(int exit_code, int signal)> exited;
  };

  SimRank(World* world, const Clock* clock, SimFiles* files, RankRegistry* registry,
          RankIdentity who, const std::string& run_spec, int64_t lease_until_ms, Folder folder);
  void Start();

  // From the worker daemon, over the socket.
  void SetLease(int64_t until_monotonic_ms);
  void Stop(const std::string& reason);
  void Command(const Json& command);

  // From the world.
  void Kill(int signal);
  void Hang();

  bool alive() const { return alive_; }
  bool hung() const { return hung_; }
  // Has done its work, or waits for the others.
  bool up() const { return alive_ && started_ && !hung_; }
  const RankIdentity& who() const { return who_; }

 private:
  enum class Wish { kNone, kDrain, kCancel, kLeaseExpired };

  void After(int64_t millis, void (SimRank::*step)());
  void WatchLease();
  void Wake();
  void ReportStarted();
  // The main loop comes to the place where it looks for orders.
  void Loop();
  void EndStep();
  void MeasureDomains();
  void BeginWrite();
  void EndWrite();
  void Decided();
  void Finish();
  void HandleWish();
  void Fail(v1::Cause cause, const std::string& error);
  void Stopped(v1::Cause cause);
  void Exit(int exit_code, int signal);
  void ExitWell() { Exit(0, 0); }
  void Report(v1::RankReport report);
  bool peers_up() const;
  double LossOf(int64_t step) const;
  std::string ArtefactPath() const;

  World* const world_;
  const Clock* const clock_;
  SimFiles* const files_;
  RankRegistry* const registry_;
  const RankIdentity who_;
  const Folder folder_;
  const Json spec_;
  const bool trains_;
  const int world_size_;
  int64_t steps_ = 0;
  int64_t checkpoint_interval_ = 0;
  int64_t sampler_interval_ = 0;  // 0: no dynamic mixture

  bool alive_ = true;
  bool started_ = false;
  bool hung_ = false;
  bool waiting_ = false;  // for an order, with the main loop blocked until it comes
  Wish wish_ = Wish::kNone;
  int64_t lease_until_ms_;
  int64_t step_ = 0;           // done
  int64_t saved_step_ = 0;     // with a committed checkpoint
  int64_t measured_step_ = 0;  // domains measured and decided upon
  bool written_ = false;       // the output of a job that does not train is committed
  std::string writing_;        // path of what is being written or waits for its decision
  std::map<std::string, Json> decisions_;  // on artefacts, by path
  int64_t weights_version_ = 0;
  std::map<std::string, double> weights_;
  std::map<int64_t, Json> mixtures_;  // by step
};

}  // namespace moe::simulation
