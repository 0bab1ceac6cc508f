// The metrics of moe-worker.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/registry.h>

namespace moe::worker {

// Each member is a time series. Thread-safe. The registry must outlive it.
struct WorkerMetrics {
  explicit WorkerMetrics(prometheus::Registry& registry);

  prometheus::Gauge& slots_free;
  prometheus::Gauge& slots_busy;
  prometheus::Gauge& attempts;
  prometheus::Gauge& session_connected;
  prometheus::Gauge& lease_remaining_seconds;
  prometheus::Counter& rank_starts;
  prometheus::Counter& rank_start_failures;
  prometheus::Counter& rank_exits_ok;
  prometheus::Counter& rank_exits_error;
  prometheus::Counter& rank_exits_signal;
  prometheus::Counter& rank_exits_unknown;
  prometheus::Counter& rank_kills_lease;
  prometheus::Counter& rank_kills_grace;
  prometheus::Counter& reports;
  prometheus::Counter& log_bytes;
  prometheus::Counter& sessions;
};

}  // namespace moe::worker
