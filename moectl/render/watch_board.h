// What `job watch` knows of its jobs, and how it looks.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "common/term/terminal.h"
#include "moe/v1/job_service.pb.h"

namespace moe::moectl {

// Not thread-safe.
class WatchBoard {
 public:
  // The jobs in the order in which they are shown.
  explicit WatchBoard(const std::vector<moe::v1::Job>& jobs);

  // Takes in a change. Returns it as a line for a log, without a line break; empty where it would
  // repeat the job's line before, as after a reconnection.
  std::string Update(const moe::v1::WatchJobsResponse& change, int64_t now_unix_millis);

  // In the order in which they are shown.
  std::vector<moe::v1::Job> jobs() const;
  // Those that failed or were cancelled.
  std::vector<moe::v1::Job> Unsuccessful() const;

  // A table of the jobs, at most terminal.rows - 1 lines of at most terminal.columns. Where there
  // are more jobs than lines those that have ended go first.
  std::string RenderRegion(int64_t now_unix_millis, const term::Terminal& terminal) const;

 private:
  struct Entry {
    moe::v1::Job job;
    std::string last_line;
    // Smoothed over the newest steps, so that the time left does not jump.
    double step_seconds = 0;
  };

  std::vector<std::string> order_;
  std::map<std::string, Entry> entries_;
};

}  // namespace moe::moectl
