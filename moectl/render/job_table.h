// Tables about jobs, steps and events.
#pragma once

#include <cstdint>
#include <string>

#include "common/term/table.h"
#include "moe/v1/job_service.pb.h"

namespace moe::moectl {

// JOB NAME KIND STATE PROGRESS REASON AGE; wide adds PIPELINE ATTEMPT PLACEMENT USER.
std::string RenderJobTable(const moe::v1::ListJobsResponse& jobs, bool wide,
                           int64_t now_unix_millis, const term::TableLayout& layout);

// TIME ATTEMPT STATE CAUSE MESSAGE, oldest first.
std::string RenderEventTable(const moe::v1::ListEventsResponse& events,
                             const term::TableLayout& layout);

// The loss sequence.
std::string RenderStepTable(const moe::v1::ListStepsResponse& steps,
                            const term::TableLayout& layout);
// With a header line, and all digits that a double has: equal runs give equal files.
std::string RenderStepCsv(const moe::v1::ListStepsResponse& steps);

}  // namespace moe::moectl
