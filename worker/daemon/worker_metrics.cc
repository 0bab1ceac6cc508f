#include "worker/daemon/worker_metrics.h"

#include <string>

namespace moe::worker {
namespace {

prometheus::Gauge& Gauge(prometheus::Registry& registry, const std::string& name,
                         const std::string& help, const prometheus::Labels& labels = {}) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add(labels);
}

prometheus::Counter& Counter(prometheus::Registry& registry, const std::string& name,
                             const std::string& help, const prometheus::Labels& labels = {}) {
  return prometheus::BuildCounter().Name(name).Help(help).Register(registry).Add(labels);
}

constexpr char kSlots[] = "moe_worker_slots";
constexpr char kSlotsHelp[] = "Slots of this worker, by whether a rank runs on them.";
constexpr char kExits[] = "moe_worker_rank_exits_total";
constexpr char kExitsHelp[] =
    "Ranks that ended: ok (status 0), error (another status), signal, unknown (started by an "
    "earlier daemon, so that only the end itself is known).";
constexpr char kKills[] = "moe_worker_rank_kills_total";
constexpr char kKillsHelp[] =
    "Ranks that this daemon killed: lease (it ran out), grace (told to stop and still running).";

}  // namespace

WorkerMetrics::WorkerMetrics(prometheus::Registry& registry)
    : slots_free(Gauge(registry, kSlots, kSlotsHelp, {{"state", "free"}})),
      slots_busy(Gauge(registry, kSlots, kSlotsHelp, {{"state", "busy"}})),
      attempts(Gauge(registry, "moe_worker_attempts",
                     "Attempts with a run folder here, running or not yet recorded.")),
      session_connected(Gauge(registry, "moe_worker_session_connected",
                              "1 while the coordinator has accepted this worker, else 0.")),
      lease_remaining_seconds(Gauge(registry, "moe_worker_lease_remaining_seconds",
                                    "How long the leases are good without another renewal.")),
      rank_starts(Counter(registry, "moe_worker_rank_starts_total", "Ranks started.")),
      rank_start_failures(Counter(registry, "moe_worker_rank_start_failures_total",
                                  "Ranks that could not be started.")),
      rank_exits_ok(Counter(registry, kExits, kExitsHelp, {{"result", "ok"}})),
      rank_exits_error(Counter(registry, kExits, kExitsHelp, {{"result", "error"}})),
      rank_exits_signal(Counter(registry, kExits, kExitsHelp, {{"result", "signal"}})),
      rank_exits_unknown(Counter(registry, kExits, kExitsHelp, {{"result", "unknown"}})),
      rank_kills_lease(Counter(registry, kKills, kKillsHelp, {{"reason", "lease"}})),
      rank_kills_grace(Counter(registry, kKills, kKillsHelp, {{"reason", "grace"}})),
      reports(Counter(registry, "moe_worker_reports_total",
                      "Reports of ranks sent, again after a lost session included.")),
      log_bytes(Counter(registry, "moe_worker_log_bytes_total",
                        "Bytes of rank logs sent, again after a lost session included.")),
      sessions(Counter(registry, "moe_worker_sessions_total",
                       "Sessions that the coordinator accepted.")) {}

}  // namespace moe::worker
