// What users ask of their jobs, after they were submitted. Belongs to the loop's thread
// (coordinator/turn.h). Errors are FAILED_PRECONDITION; a wish that is met already is OK.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "coordinator/attempt_ends.h"
#include "coordinator/doorbell.h"
#include "coordinator/job_table.h"
#include "coordinator/turn.h"

namespace moe::coordinator {

class JobWishes {
 public:
  JobWishes(JobTable* jobs, AttemptEnds* ends, Doorbell* doorbell)
      : jobs_(jobs), ends_(ends), doorbell_(doorbell) {}

  absl::Status Cancel(Turn& turn, v1::JobRecord& record, const std::string& reason);
  absl::Status Hold(Turn& turn, v1::JobRecord& record, const std::string& reason);
  absl::Status Release(Turn& turn, v1::JobRecord& record);
  absl::Status Preempt(Turn& turn, v1::JobRecord& record, const std::string& reason);

 private:
  absl::Status CancelElements(Turn& turn, const std::string& array, const std::string& reason);

  JobTable* const jobs_;
  AttemptEnds* const ends_;
  Doorbell* const doorbell_;
};

}  // namespace moe::coordinator
