#include "worker/daemon/worker_metrics.h"

#include "worker/daemon/version.h"

namespace moe::worker {

WorkerMetrics::WorkerMetrics()
    : slots(
          list.Gauge("moe_worker_slots",
                     "Slots of this worker, by state: busy while a rank runs on them, else free.")),
      rank_exits(list.Counter(
          "moe_worker_rank_exits_total",
          "Ranks that ended, by result: ok (status 0), error (another status), signal, unknown "
          "(started by an earlier daemon, so that only the end itself is known).")),
      rank_kills(list.Counter("moe_worker_rank_kills_total",
                              "Ranks that this daemon killed, by reason: lease (it had run out), "
                              "grace (told to stop and still running at its end).")),
      slots_free(slots.Add({{"state", "free"}})),
      slots_busy(slots.Add({{"state", "busy"}})),
      attempts(list.Gauge("moe_worker_attempts",
                          "Attempts with a run folder here, running or not yet recorded.")
                   .Add({})),
      session_connected(list.Gauge("moe_worker_session_connected",
                                   "1 while the coordinator has accepted this worker, else 0.")
                            .Add({})),
      lease_remaining_seconds(list.Gauge("moe_worker_lease_remaining_seconds",
                                         "How long ranks may run without another renewal.")
                                  .Add({})),
      sessions(list.Counter("moe_worker_sessions_total", "Sessions that the coordinator accepted.")
                   .Add({})),
      rank_starts(list.Counter("moe_worker_rank_starts_total", "Ranks started.").Add({})),
      rank_start_failures(
          list.Counter("moe_worker_rank_start_failures_total", "Ranks that could not be started.")
              .Add({})),
      rank_exits_ok(rank_exits.Add({{"result", "ok"}})),
      rank_exits_error(rank_exits.Add({{"result", "error"}})),
      rank_exits_signal(rank_exits.Add({{"result", "signal"}})),
      rank_exits_unknown(rank_exits.Add({{"result", "unknown"}})),
      rank_kills_lease(rank_kills.Add({{"reason", "lease"}})),
      rank_kills_grace(rank_kills.Add({{"reason", "grace"}})),
      reports(list.Counter("moe_worker_reports_total",
                           "Reports of ranks sent, repetitions after a lost session included.")
                  .Add({})),
      log_bytes(list.Counter("moe_worker_log_bytes_total",
                             "Bytes of rank logs sent, repetitions after a lost session included.")
                    .Add({})) {
  list.Gauge("moe_worker_build_info", "1, with the version of this program as a label.")
      .Add({{"version", kVersion}})
      .Set(1);
}

}  // namespace moe::worker
