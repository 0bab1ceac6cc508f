// Words and short phrases about jobs.
#pragma once

#include <google/protobuf/timestamp.pb.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/term/style.h"
#include "moe/v1/job.pb.h"

namespace moe::moectl {

// "train".
std::string KindOf(const moe::v1::JobSpec& spec);
// "RUNNING".
std::string StateName(moe::v1::JobState state);
// "running".
std::string StateWord(moe::v1::JobState state);
// "BAD_INPUT"; empty for no cause.
std::string CauseName(moe::v1::Cause cause);
// From "running" in any case. INVALID_ARGUMENT with the states there are.
absl::StatusOr<moe::v1::JobState> ParseState(const std::string& text);

// Whether the job is over for good.
bool HasEnded(moe::v1::JobState state);
term::Style StyleOf(moe::v1::JobState state);

// "34/60 steps"; "1200 documents" where the total is unknown; empty where nothing is known.
std::string ProgressText(const moe::v1::JobProgress& progress);
// "node1[0,1] node2[0]"; empty where there is no placement.
std::string PlacementText(const moe::v1::Job& job);

int64_t MillisOf(const google::protobuf::Timestamp& time);
// Local time, "2026-11-24 06:12:03".
std::string TimeText(int64_t unix_millis);
// "06:12:03".
std::string TimeOfDayText(int64_t unix_millis);

// Seconds until `job` is done, if that can be told: for training the steps left times
// `step_seconds` (the newest step's where it is 0), for others at the pace since the start.
std::optional<double> RemainingSeconds(const moe::v1::Job& job, double step_seconds,
                                       int64_t now_unix_millis);

}  // namespace moe::moectl
