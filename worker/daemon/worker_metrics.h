// Every metric of moe-worker (moe-worker --dump-metrics lists them).
#pragma once

#include "common/metrics/metric_list.h"

namespace moe::worker {

// The members are families first, then their time series, in the order they are made. Thread-safe.
struct WorkerMetrics {
  WorkerMetrics();
  WorkerMetrics(const WorkerMetrics&) = delete;
  WorkerMetrics& operator=(const WorkerMetrics&) = delete;

  MetricList list;

  prometheus::Family<prometheus::Gauge>& slots;
  prometheus::Family<prometheus::Counter>& rank_exits;
  prometheus::Family<prometheus::Counter>& rank_kills;

  prometheus::Gauge& slots_free;
  prometheus::Gauge& slots_busy;
  prometheus::Gauge& attempts;
  prometheus::Gauge& session_connected;
  prometheus::Gauge& lease_remaining_seconds;
  prometheus::Counter& sessions;
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
};

}  // namespace moe::worker
