#include "coordinator/job_table.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <charconv>

#include "common/check.h"
#include "common/status.h"
#include "coordinator/timestamp.h"

namespace moe::coordinator {
namespace {

// Equal messages give equal bytes, whatever the order of their maps.
std::string SerializeDeterministically(const google::protobuf::Message& message) {
  std::string bytes;
  google::protobuf::io::StringOutputStream stream(&bytes);
  google::protobuf::io::CodedOutputStream output(&stream);
  output.SetSerializationDeterministic(true);
  message.SerializeToCodedStream(&output);
  output.Trim();
  return bytes;
}

JobTable::WatchMessage WatchMessageOf(const v1::Job& job, const v1::JobEvent* event) {
  auto message = std::make_shared<v1::WatchJobsResponse>();
  *message->mutable_job() = job;
  if (event != nullptr) *message->mutable_event() = *event;
  return message;
}

// The job as it was right after `event`, as far as the history tells.
v1::Job JobAt(const v1::Job& now, const v1::JobEvent& event) {
  v1::Job job = now;
  job.set_state(event.state());
  job.set_cause(event.cause());
  job.set_reason(event.message());
  job.set_attempt(event.attempt());
  job.set_revision(event.revision());
  if (!IsEnded(event.state())) job.clear_end_time();
  return job;
}

}  // namespace

std::optional<uint64_t> ParseJobId(const std::string& job_id) {
  if (job_id.size() < 2 || job_id[0] != 'j') return std::nullopt;
  uint64_t number = 0;
  const char* end = job_id.data() + job_id.size();
  const auto [rest, error] = std::from_chars(job_id.data() + 1, end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
}

std::string FormatJobId(uint64_t number) { return fmt::format("j{}", number); }

std::string FormatAttempt(uint64_t job, int32_t attempt) {
  return fmt::format("j{}.{}", job, attempt);
}

absl::Status JobTable::Load() {
  MOE_ASSIGN_OR_RETURN(const storage::Store::Counters counters, store_->ReadCounters());
  revision_ = counters.revision;
  next_job_ = counters.next_job;
  next_pipeline_ = counters.next_pipeline;
  Turn unused;  // nothing changes
  return store_->ForEachJob([&](uint64_t number, v1::JobRecord record) {
    Index(number, record);
    if (observer_) {
      observer_(unused, record.job(), v1::JOB_STATE_UNSPECIFIED, record.job().state());
    }
    jobs_.emplace(number, std::move(record));
  });
}

void JobTable::Index(uint64_t number, const v1::JobRecord& record) {
  uint64_t& newest = newest_by_name_[record.job().spec().name()];
  newest = std::max(newest, number);
  if (IsEnded(record.job().state())) return;
  live_.insert(number);
  if (record.job().state() == v1::JOB_STATE_QUEUED) queued_.insert(number);
  if (record.job().state() == v1::JOB_STATE_PENDING) {
    for (const std::string& need : record.job().need_job_ids()) {
      needed_by_.emplace(*ParseJobId(need), number);
    }
  }
}

v1::JobRecord* JobTable::Find(uint64_t number) {
  const auto it = jobs_.find(number);
  return it == jobs_.end() ? nullptr : &it->second;
}

v1::JobRecord* JobTable::Find(const std::string& job_id) {
  const std::optional<uint64_t> number = ParseJobId(job_id);
  return number.has_value() ? Find(*number) : nullptr;
}

absl::StatusOr<v1::JobRecord*> JobTable::FindByIdOrName(const std::string& text) {
  if (text.empty()) return InvalidArgument("job is missing; give a job id or a job's name");
  if (v1::JobRecord* record = Find(text)) return record;
  const auto it = newest_by_name_.find(text);
  if (it != newest_by_name_.end()) return Find(it->second);
  return NotFound("no job has the id or the name '{}'; list them with: moectl job list", text);
}

v1::ListJobsResponse JobTable::List(const v1::ListJobsRequest& request, int page_size,
                                    uint64_t before_job) const {
  v1::ListJobsResponse response;
  response.set_revision(revision_);
  auto it = std::make_reverse_iterator(jobs_.lower_bound(before_job));
  uint64_t last = 0;
  for (; it != jobs_.rend(); ++it) {
    const v1::Job& job = it->second.job();
    const auto& states = request.states();
    if (!states.empty() && std::find(states.begin(), states.end(), job.state()) == states.end()) {
      continue;
    }
    if (!request.pipeline_id().empty() && job.pipeline_id() != request.pipeline_id()) continue;
    if (response.jobs_size() == page_size) {
      response.set_next_page_token(FormatJobId(last));
      break;
    }
    *response.add_jobs() = job;
    last = it->first;
  }
  return response;
}

void JobTable::ForEachLive(const std::function<void(v1::JobRecord&)>& visit) {
  for (const uint64_t number : std::vector<uint64_t>(live_.begin(), live_.end())) {
    visit(jobs_.at(number));
  }
}

absl::StatusOr<std::optional<v1::SubmitPipelineResponse>> JobTable::FindSubmission(
    const v1::SubmitPipelineRequest& request) {
  std::optional<v1::RequestRecord> record;
  const auto it = uncommitted_requests_.find(request.request_id());
  if (it != uncommitted_requests_.end()) {
    record = it->second;
  } else {
    MOE_ASSIGN_OR_RETURN(record, store_->FindRequest(request.request_id()));
  }
  if (!record.has_value()) return std::optional<v1::SubmitPipelineResponse>();
  if (record->request() != SerializeDeterministically(request)) {
    return AlreadyExists(
        "request_id '{}' was used for another request, which made pipeline {}; use a new "
        "request_id "
        "for new jobs",
        request.request_id(), record->pipeline_id());
  }
  return std::optional<v1::SubmitPipelineResponse>(AnswerOf(*record));
}

v1::SubmitPipelineResponse JobTable::AnswerOf(const v1::RequestRecord& request) {
  v1::SubmitPipelineResponse response;
  response.set_pipeline_id(request.pipeline_id());
  for (const std::string& job_id : request.job_ids()) {
    const v1::JobRecord* record = Find(job_id);
    MOE_CHECK(record != nullptr);  // stored in the batch of the request id
    *response.add_jobs() = record->job();
  }
  return response;
}

v1::SubmitPipelineResponse JobTable::Submit(Turn& turn, const v1::SubmitPipelineRequest& request,
                                            const std::vector<CompleteJob>& jobs,
                                            const std::string& user) {
  v1::RequestRecord request_record;
  request_record.set_pipeline_id(fmt::format("p{}", next_pipeline_++));
  request_record.set_request(SerializeDeterministically(request));
  const uint64_t first = next_job_;
  next_job_ += jobs.size();
  turn.batch.PutNextJob(next_job_);
  turn.batch.PutNextPipeline(next_pipeline_);

  for (size_t i = 0; i < jobs.size(); ++i) {
    const uint64_t number = first + i;
    request_record.add_job_ids(FormatJobId(number));
    v1::JobRecord& record = jobs_[number];
    record.set_pipeline_name(request.pipeline_name());
    v1::Job& job = *record.mutable_job();
    job.set_job_id(FormatJobId(number));
    job.set_pipeline_id(request_record.pipeline_id());
    *job.mutable_spec() = jobs[i].spec;
    *job.mutable_create_time() = ToTimestamp(turn.unix_millis);
    job.set_user(user);
    for (const int need : jobs[i].needs) job.add_need_job_ids(FormatJobId(first + need));
    if (job.need_job_ids().empty()) {
      job.set_state(v1::JOB_STATE_QUEUED);
    } else {
      job.set_state(v1::JOB_STATE_PENDING);
      job.set_cause(v1::CAUSE_NEEDS_UNMET);
      job.set_reason(fmt::format("waits for {}", fmt::join(job.need_job_ids(), ", ")));
    }
    Index(number, record);
    Note(turn, record, job.cause(), "submitted");
    if (observer_) observer_(turn, job, v1::JOB_STATE_UNSPECIFIED, job.state());
  }

  turn.batch.PutRequest(request.request_id(), request_record);
  uncommitted_requests_[request.request_id()] = request_record;
  turn.After([this, id = request.request_id()] { uncommitted_requests_.erase(id); });
  return AnswerOf(request_record);
}

v1::SubmitPipelineResponse JobTable::Preview(const std::vector<CompleteJob>& jobs,
                                             const std::string& user) const {
  v1::SubmitPipelineResponse response;
  for (const CompleteJob& complete : jobs) {
    v1::Job& job = *response.add_jobs();
    *job.mutable_spec() = complete.spec;
    job.set_user(user);
    job.set_state(complete.needs.empty() ? v1::JOB_STATE_QUEUED : v1::JOB_STATE_PENDING);
  }
  return response;
}

void JobTable::Move(Turn& turn, v1::JobRecord& record, JobChange change, v1::Cause cause,
                    const std::string& reason) {
  v1::Job& job = *record.mutable_job();
  const v1::JobState from = job.state();
  const std::optional<v1::JobState> to = NextState(from, change);
  MOE_CHECK(to.has_value());
  const uint64_t number = *ParseJobId(job.job_id());
  job.set_state(*to);
  job.set_cause(cause);
  job.set_reason(reason);
  if (from == v1::JOB_STATE_QUEUED) queued_.erase(number);
  if (*to == v1::JOB_STATE_QUEUED) queued_.insert(number);
  if (*to == v1::JOB_STATE_STARTING && !job.has_start_time()) {
    *job.mutable_start_time() = ToTimestamp(turn.unix_millis);
  }
  if (IsEnded(*to)) {
    *job.mutable_end_time() = ToTimestamp(turn.unix_millis);
    live_.erase(number);
  }
  Note(turn, record, cause, reason);
  if (observer_) observer_(turn, job, from, *to);
  if (IsEnded(*to)) FollowNeeds(turn, number);
}

void JobTable::FollowNeeds(Turn& turn, uint64_t ended_job) {
  const auto [begin, end] = needed_by_.equal_range(ended_job);
  std::vector<uint64_t> followers;
  for (auto it = begin; it != end; ++it) followers.push_back(it->second);
  needed_by_.erase(begin, end);

  const v1::Job& ended = jobs_.at(ended_job).job();
  for (const uint64_t number : followers) {
    v1::JobRecord& record = jobs_.at(number);
    if (record.job().state() != v1::JOB_STATE_PENDING) continue;
    if (ended.state() != v1::JOB_STATE_SUCCEEDED) {
      Move(turn, record, JobChange::kNeedFailed, v1::CAUSE_NEED_FAILED,
           fmt::format("needs {} ('{}'), which ended as {}", ended.job_id(), ended.spec().name(),
                       StateName(ended.state())));
      continue;
    }
    if (record.job().held() || !NeedsMet(record.job())) continue;
    Move(turn, record, JobChange::kNeedsMet, v1::CAUSE_UNSPECIFIED, "all needs are met");
  }
}

bool JobTable::NeedsMet(const v1::Job& job) {
  const auto& needs = job.need_job_ids();
  return std::all_of(needs.begin(), needs.end(), [&](const std::string& need) {
    return Find(need)->job().state() == v1::JOB_STATE_SUCCEEDED;
  });
}

void JobTable::SetHeld(Turn& turn, v1::JobRecord& record, bool held, const std::string& reason) {
  v1::Job& job = *record.mutable_job();
  job.set_held(held);
  if (held && job.state() == v1::JOB_STATE_QUEUED) {
    Move(turn, record, JobChange::kHeld, v1::CAUSE_HELD, reason);
  } else if (!held && job.state() == v1::JOB_STATE_PENDING && NeedsMet(job)) {
    Move(turn, record, JobChange::kNeedsMet, v1::CAUSE_UNSPECIFIED, reason);
  } else {
    Note(turn, record, held ? v1::CAUSE_HELD : v1::CAUSE_UNSPECIFIED, reason);
  }
}

void JobTable::Touch(Turn& turn, v1::JobRecord& record) {
  record.mutable_job()->set_revision(NewRevision(turn));
  Save(turn, *ParseJobId(record.job().job_id()), record, nullptr);
}

void JobTable::Note(Turn& turn, v1::JobRecord& record, v1::Cause cause,
                    const std::string& message) {
  v1::Job& job = *record.mutable_job();
  job.set_revision(NewRevision(turn));
  v1::JobEvent event;
  event.set_revision(job.revision());
  event.set_job_id(job.job_id());
  *event.mutable_time() = ToTimestamp(turn.unix_millis);
  event.set_state(job.state());
  event.set_attempt(job.attempt());
  event.set_cause(cause);
  event.set_message(message);
  Save(turn, *ParseJobId(job.job_id()), record, &event);
}

int64_t JobTable::NewRevision(Turn& turn) {
  turn.batch.PutRevision(++revision_);
  return revision_;
}

void JobTable::Save(Turn& turn, uint64_t number, const v1::JobRecord& record,
                    const v1::JobEvent* event) {
  turn.batch.PutJob(number, record);
  if (event != nullptr) turn.batch.PutEvent(number, *event);
  if (watchers_.empty()) return;
  turn.After([this, number, message = WatchMessageOf(record.job(), event)] {
    for (auto& [id, watcher] : watchers_) {
      if (watcher.filter.Wants(number)) watcher.tell(message);
    }
  });
}

absl::StatusOr<std::vector<JobTable::WatchMessage>> JobTable::ChangesSince(
    const WatchFilter& filter, int64_t from_revision) {
  std::vector<WatchMessage> messages;
  for (const auto& [number, record] : jobs_) {
    const v1::Job& job = record.job();
    if (!filter.Wants(number) || job.revision() <= from_revision) continue;
    if (from_revision == 0) {
      messages.push_back(WatchMessageOf(job, nullptr));
      continue;
    }
    MOE_ASSIGN_OR_RETURN(const std::vector<v1::JobEvent> events,
                         store_->ListEvents(number, from_revision));
    for (const v1::JobEvent& event : events) {
      messages.push_back(WatchMessageOf(JobAt(job, event), &event));
    }
    if (events.empty() || events.back().revision() < job.revision()) {
      messages.push_back(WatchMessageOf(job, nullptr));
    }
  }
  std::stable_sort(messages.begin(), messages.end(),
                   [](const WatchMessage& a, const WatchMessage& b) {
                     return a->job().revision() < b->job().revision();
                   });
  return messages;
}

int64_t JobTable::AddWatcher(WatchFilter filter, std::function<void(const WatchMessage&)> tell) {
  watchers_.emplace(next_watcher_, Watcher{std::move(filter), std::move(tell)});
  return next_watcher_++;
}

void JobTable::RemoveWatcher(int64_t id) { watchers_.erase(id); }

}  // namespace moe::coordinator
