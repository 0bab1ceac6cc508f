#include "moectl/render/job_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <ctime>

#include "common/nearest.h"
#include "common/status.h"

namespace moe::moectl {
namespace {

using moe::v1::Cause;
using moe::v1::Job;
using moe::v1::JobProgress;
using moe::v1::JobSpec;
using moe::v1::JobState;

std::string WithoutPrefix(const std::string& name, const std::string& prefix) {
  return name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

std::string Format(int64_t unix_millis, const char* format) {
  const std::time_t seconds = unix_millis / 1000;
  std::tm local{};
  localtime_r(&seconds, &local);
  char text[32];
  return std::string(text, std::strftime(text, sizeof(text), format, &local));
}

}  // namespace

std::string KindOf(const JobSpec& spec) {
  const auto* kind = JobSpec::descriptor()->FindOneofByName("kind");
  const auto* field = spec.GetReflection()->GetOneofFieldDescriptor(spec, kind);
  return field == nullptr ? "" : field->name();
}

std::string StateName(JobState state) {
  return WithoutPrefix(moe::v1::JobState_Name(state), "JOB_STATE_");
}

std::string StateWord(JobState state) {
  std::string word = StateName(state);
  std::transform(word.begin(), word.end(), word.begin(),
                 [](unsigned char c) { return std::tolower(c); });
  return word;
}

std::string CauseName(Cause cause) {
  if (cause == moe::v1::CAUSE_UNSPECIFIED) return "";
  return WithoutPrefix(moe::v1::Cause_Name(cause), "CAUSE_");
}

absl::StatusOr<JobState> ParseState(const std::string& text) {
  std::string upper = text;
  std::transform(upper.begin(), upper.end(), upper.begin(),
                 [](unsigned char c) { return std::toupper(c); });
  std::vector<std::string> names;
  const auto* states = moe::v1::JobState_descriptor();
  for (int i = 0; i < states->value_count(); ++i) {
    const auto state = static_cast<JobState>(states->value(i)->number());
    if (state == moe::v1::JOB_STATE_UNSPECIFIED) continue;
    if (StateName(state) == upper) return state;
    names.push_back(StateName(state));
  }
  const std::string nearest = Nearest(upper, names);
  if (!nearest.empty()) {
    return InvalidArgument("unknown state '{}'; did you mean {}?", text, nearest);
  }
  return InvalidArgument("unknown state '{}'; the states are {}", text, fmt::join(names, ", "));
}

bool HasEnded(JobState state) {
  return state == moe::v1::JOB_STATE_SUCCEEDED || state == moe::v1::JOB_STATE_FAILED ||
         state == moe::v1::JOB_STATE_CANCELLED;
}

term::Style StyleOf(JobState state) {
  switch (state) {
    case moe::v1::JOB_STATE_SUCCEEDED:
      return term::Style::kGreen;
    case moe::v1::JOB_STATE_FAILED:
      return term::Style::kRed;
    case moe::v1::JOB_STATE_CANCELLED:
    case moe::v1::JOB_STATE_STOPPING:
      return term::Style::kYellow;
    case moe::v1::JOB_STATE_STARTING:
    case moe::v1::JOB_STATE_RUNNING:
      return term::Style::kCyan;
    default:
      return term::Style::kPlain;
  }
}

std::string ProgressText(const JobProgress& progress) {
  if (progress.total() > 0) {
    return fmt::format("{}/{} {}", progress.done(), progress.total(), progress.unit());
  }
  if (progress.done() > 0) return fmt::format("{} {}", progress.done(), progress.unit());
  return "";
}

std::string PlacementText(const Job& job) {
  std::string text;
  for (const moe::v1::Placement& placement : job.placements()) {
    if (!text.empty()) text += ' ';
    text += fmt::format("{}[{}]", placement.worker_id(), fmt::join(placement.slots(), ","));
  }
  return text;
}

int64_t MillisOf(const google::protobuf::Timestamp& time) {
  return time.seconds() * 1000 + time.nanos() / 1'000'000;
}

std::string TimeText(int64_t unix_millis) { return Format(unix_millis, "%Y-%m-%d %H:%M:%S"); }
std::string TimeOfDayText(int64_t unix_millis) { return Format(unix_millis, "%H:%M:%S"); }

std::optional<double> RemainingSeconds(const Job& job, double step_seconds,
                                       int64_t now_unix_millis) {
  const JobProgress& progress = job.progress();
  if (job.state() != moe::v1::JOB_STATE_RUNNING || progress.total() <= 0 || progress.done() <= 0) {
    return std::nullopt;
  }
  const auto left = static_cast<double>(std::max<int64_t>(0, progress.total() - progress.done()));
  if (step_seconds <= 0) step_seconds = progress.last_step().step_seconds();
  if (step_seconds > 0) return left * step_seconds;
  const double elapsed = static_cast<double>(now_unix_millis - MillisOf(job.start_time())) / 1000;
  if (!job.has_start_time() || elapsed <= 0) return std::nullopt;
  return left * elapsed / static_cast<double>(progress.done());
}

}  // namespace moe::moectl
