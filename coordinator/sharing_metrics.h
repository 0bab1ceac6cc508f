// Metrics of who shares the slots and what becomes of them: queues, goodput, preemption's price.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "common/metrics/metric_list.h"
#include "moe/v1/job_service.pb.h"
#include "moe/v1/queue.pb.h"

namespace moe::coordinator {

// Set from the loop's thread; the registry may be read from any.
class SharingMetrics {
 public:
  explicit SharingMetrics(MetricList* list);

  void SetQueues(const std::vector<v1::Queue>& queues);
  // `time` is of all attempts ever: the counters go on where the store's books are.
  void SetGoodput(const v1::SlotSeconds& time);

 private:
  // Raises a counter to `value`.
  void Raise(const std::string& activity, double value);

  prometheus::Family<prometheus::Gauge>& queue_slots_;
  prometheus::Family<prometheus::Gauge>& queue_jobs_;
  prometheus::Family<prometheus::Gauge>& queue_usage_;
  prometheus::Family<prometheus::Counter>& slot_seconds_;
};

}  // namespace moe::coordinator
