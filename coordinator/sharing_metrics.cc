#include "coordinator/sharing_metrics.h"

namespace moe::coordinator {

SharingMetrics::SharingMetrics(MetricList* list)
    : queue_slots_(list->Gauge("moe_queue_slots",
                               "Slots of a queue, by kind: quota, limit (absent where there is "
                               "none), used, wanted by its queued jobs.")),
      queue_jobs_(list->Gauge("moe_queue_jobs", "Jobs of a queue, by state: placed, queued.")),
      queue_usage_(list->Gauge("moe_queue_usage_slot_seconds",
                               "Slot-seconds that a queue has used of late, fading.")),
      slot_seconds_(list->Counter("moe_slot_seconds_total",
                                  "Slot-seconds by activity: queued (waited for, not held), "
                                  "starting, restoring, productive, recomputed, checkpointing, "
                                  "hung, idle. Without queued they are all slot time there was.")) {
}

void SharingMetrics::SetQueues(const std::vector<v1::Queue>& queues) {
  for (const v1::Queue& queue : queues) {
    const auto slots = [&](const char* kind, int64_t value) {
      queue_slots_.Add({{"queue", queue.name()}, {"kind", kind}}).Set(static_cast<double>(value));
    };
    slots("quota", queue.quota_slots());
    if (queue.has_limit_slots()) slots("limit", queue.limit_slots());
    slots("used", queue.used_slots());
    slots("wanted", queue.queued_slots());
    queue_jobs_.Add({{"queue", queue.name()}, {"state", "placed"}}).Set(queue.placed_jobs());
    queue_jobs_.Add({{"queue", queue.name()}, {"state", "queued"}}).Set(queue.queued_jobs());
    queue_usage_.Add({{"queue", queue.name()}}).Set(queue.usage_slot_seconds());
  }
}

void SharingMetrics::SetGoodput(const v1::SlotSeconds& time) {
  Raise("queued", time.queued());
  Raise("starting", time.starting());
  Raise("restoring", time.restoring());
  Raise("productive", time.productive());
  Raise("recomputed", time.recomputed());
  Raise("checkpointing", time.checkpointing());
  Raise("hung", time.hung());
  Raise("idle", time.idle());
}

void SharingMetrics::Raise(const std::string& activity, double value) {
  prometheus::Counter& counter = slot_seconds_.Add({{"activity", activity}});
  // A checkpoint may move a moment from productive to checkpointing: the counter waits for it.
  if (value > counter.Value()) counter.Increment(value - counter.Value());
}

}  // namespace moe::coordinator
