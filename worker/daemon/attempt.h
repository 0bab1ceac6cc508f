// An attempt as the daemon holds it in memory. The truth is in its run folder (run_folder.h).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>

#include "moe/v1/worker_service.pb.h"
#include "worker/daemon/rank_link.h"
#include "worker/daemon/rank_process.h"
#include "worker/daemon/relay.h"
#include "worker/daemon/run_folder.h"

namespace moe::worker {

struct Rank {
  Rank(int number, const RankFolder& folder)
      : number(number),
        folder(folder),
        link(folder.socket_path()),
        reports(folder.reports_path()),
        log(folder.log_path()) {}

  bool running() const { return process.has_value(); }
  // It may take a while until it has ended, or for ever, if the kernel holds it.
  void Kill() {
    if (!running() || killed) return;
    killed = true;
    process->Kill();
  }

  const int number;
  const RankFolder folder;
  std::optional<RankProcess> process;  // while it runs
  bool has_ended = false;              // its end is to be looked at
  bool killed = false;                 // by this daemon; its end is awaited
  ProcessExit exit;                    // once it does not run
  int64_t ended_ms = 0;
  int slot = -1;     // -1: not known, found after a restart
  int watch = -1;    // of its folder, in the supervisor's SocketWatch
  bool news = true;  // there may be something to relay
  RankLink link;
  ReportRelay reports;
  LogRelay log;
  bool outbox_broken = false;  // reported in the log; nothing more can be read
  bool exit_sent = false;      // in this session
};

struct Attempt {
  Attempt(const AttemptKey& key, const RunFolder& folder) : key(key), folder(folder) {}

  v1::AttemptRef Ref() const {
    v1::AttemptRef ref;
    ref.set_job_id(key.job_id);
    ref.set_attempt(key.attempt);
    return ref;
  }

  const AttemptKey key;
  const RunFolder folder;
  std::map<int, Rank> ranks;
  bool relayed = false;               // the coordinator wants to hear of it in this session
  std::optional<int64_t> kill_at_ms;  // told to stop: when the grace ends
  bool forgotten = false;             // to be removed once nothing of it runs
};

}  // namespace moe::worker
