// Tables about queues, plans and where time went.
#pragma once

#include <cstdint>
#include <string>

#include "common/term/table.h"
#include "moe/v1/cluster_service.pb.h"
#include "moe/v1/job_service.pb.h"

namespace moe::moectl {

// QUEUE QUOTA USED LIMIT LENDS WEIGHT JOBS QUEUED WANTED USAGE; slots, but for jobs and slot-hours.
std::string RenderQueueTable(const moe::v1::ListQueuesResponse& queues,
                             const term::TableLayout& layout);

// Two lines that `job why` shows of a queue: what it may use, and what it uses.
std::string RenderQueueUse(const moe::v1::Queue& queue);

// JOB OUTCOME STOPS COST; what would become of each job of a file.
std::string RenderPlanTable(const moe::v1::PlanPipelineResponse& plan, int64_t now_unix_millis,
                            const term::TableLayout& layout);

// Where the time of slots went, with shares; then by attempt or by queue.
std::string RenderGoodput(const moe::v1::GetGoodputResponse& goodput,
                          const term::TableLayout& layout);

}  // namespace moe::moectl
