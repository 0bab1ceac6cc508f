#include "coordinator/job_table.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include <algorithm>
#include <charconv>

#include "common/check.h"
#include "common/status.h"
#include "coordinator/job_array.h"
#include "coordinator/job_dependencies.h"
#include "coordinator/job_filter.h"
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

bool WantsLiveOnly(const v1::ListJobsRequest& request) {
  return !request.states().empty() &&
         std::none_of(request.states().begin(), request.states().end(),
                      [](int state) { return IsEnded(static_cast<v1::JobState>(state)); });
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
  if (record.job().revision() > 0) by_revision_.emplace(record.job().revision(), number);
  if (IsEnded(record.job().state())) return;
  live_.insert(number);
  if (IsArray(record.job())) arrays_.insert(number);
  if (record.job().state() == v1::JOB_STATE_QUEUED) Enqueue(number);
  if (record.job().state() == v1::JOB_STATE_PENDING) {
    for (const std::string& id : DependenciesOf(record.job())) {
      dependents_.emplace(*ParseJobId(id), number);
    }
  }
}

void JobTable::Enqueue(uint64_t number) {
  queued_.insert(number);
  queue_changes_.push_back(number);
}

void JobTable::Dequeue(uint64_t number) {
  queued_.erase(number);
  queue_changes_.push_back(number);
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
  uint64_t last = 0;
  // False once the page is full.
  const auto take = [&](uint64_t number, const v1::Job& job) {
    if (!IsWanted(request, job)) return true;
    if (response.jobs_size() == page_size) {
      response.set_next_page_token(FormatJobId(last));
      return false;
    }
    *response.add_jobs() = job;
    last = number;
    return true;
  };
  if (WantsLiveOnly(request)) {
    // However many have ended.
    auto it = std::make_reverse_iterator(live_.lower_bound(before_job));
    while (it != live_.rend() && take(*it, jobs_.at(*it).job())) ++it;
  } else {
    auto it = std::make_reverse_iterator(jobs_.lower_bound(before_job));
    while (it != jobs_.rend() && take(it->first, it->second.job())) ++it;
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
    record.set_queued_unix_millis(turn.unix_millis);
    job.set_user(user);
    AddDependencies(jobs[i], first, &job);
    job.set_state(FirstState(job));
    if (const std::vector<std::string> others = DependenciesOf(job); !others.empty()) {
      job.set_cause(v1::CAUSE_NEEDS_UNMET);
      job.set_reason(fmt::format("waits for {}", fmt::join(others, ", ")));
    }
    if (IsArray(job)) job.mutable_array()->set_waiting(job.spec().array().size());
    Index(number, record);
    Note(turn, record, job.cause(), "submitted");
    if (observer_) observer_(turn, job, v1::JOB_STATE_UNSPECIFIED, job.state());
  }
  // Earlier jobs may have ended long ago.
  for (uint64_t number = first; number < next_job_; ++number) Follow(turn, number);

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
    AddDependencies(complete, next_job_, &job);
    job.set_state(FirstState(job));
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
  if (from == v1::JOB_STATE_QUEUED) Dequeue(number);
  if (*to == v1::JOB_STATE_QUEUED) {
    Enqueue(number);
    record.set_queued_unix_millis(turn.unix_millis);
  }
  if (*to == v1::JOB_STATE_STARTING && !job.has_start_time()) {
    *job.mutable_start_time() = ToTimestamp(turn.unix_millis);
  }
  if (IsEnded(*to)) {
    *job.mutable_end_time() = ToTimestamp(turn.unix_millis);
    live_.erase(number);
    arrays_.erase(number);
  }
  Note(turn, record, cause, reason);
  if (observer_) observer_(turn, job, from, *to);
  if (!IsEnded(*to)) return;
  FollowDependents(turn, number);
  if (!job.array_job_id().empty()) CountElement(turn, job);
}

void JobTable::AddElements(Turn& turn, v1::JobRecord& array,
                           const std::vector<absl::StatusOr<v1::JobSpec>>& specs) {
  for (const absl::StatusOr<v1::JobSpec>& spec : specs) {
    const int32_t index = array.next_array_index();
    array.set_next_array_index(index + 1);
    v1::ArrayProgress& progress = *array.mutable_job()->mutable_array();
    progress.set_waiting(progress.waiting() - 1);
    progress.set_live(progress.live() + 1);

    const uint64_t number = next_job_++;
    turn.batch.PutNextJob(next_job_);
    v1::JobRecord& record = jobs_[number];
    record.set_pipeline_name(array.pipeline_name());
    record.set_queued_unix_millis(turn.unix_millis);
    v1::Job& job = *record.mutable_job();
    job.set_job_id(FormatJobId(number));
    job.set_pipeline_id(array.job().pipeline_id());
    *job.mutable_spec() = spec.ok() ? *spec : ElementOf(array.job().spec(), index);
    *job.mutable_create_time() = ToTimestamp(turn.unix_millis);
    job.set_user(array.job().user());
    job.set_array_job_id(array.job().job_id());
    job.set_array_index(index);
    // What they made is what the element reads.
    *job.mutable_need_job_ids() = array.job().need_job_ids();
    job.set_state(v1::JOB_STATE_QUEUED);
    Index(number, record);
    Note(turn, record, job.cause(), fmt::format("element {} of {}", index, job.array_job_id()));
    if (observer_) observer_(turn, job, v1::JOB_STATE_UNSPECIFIED, job.state());
    if (!spec.ok()) {
      Move(turn, record, JobChange::kFailed, v1::CAUSE_BAD_INPUT, Message(spec.status()));
    }
  }
  if (IsEnded(array.job().state())) return;
  v1::Job& job = *array.mutable_job();
  const int32_t size = job.spec().array().size();
  job.set_cause(job.array().waiting() > 0 ? v1::CAUSE_ARRAY_LIMIT : v1::CAUSE_UNSPECIFIED);
  job.set_reason(
      fmt::format("{} of {} elements are jobs so far", size - job.array().waiting(), size));
  Touch(turn, array);
}

void JobTable::CountElement(Turn& turn, const v1::Job& element) {
  v1::JobRecord& record = *Find(element.array_job_id());
  v1::Job& job = *record.mutable_job();
  v1::ArrayProgress& progress = *job.mutable_array();
  progress.set_live(progress.live() - 1);
  switch (element.state()) {
    case v1::JOB_STATE_SUCCEEDED:
      progress.set_succeeded(progress.succeeded() + 1);
      break;
    case v1::JOB_STATE_FAILED:
      progress.set_failed(progress.failed() + 1);
      break;
    default:
      progress.set_cancelled(progress.cancelled() + 1);
  }
  job.mutable_outputs()->MergeFrom(element.outputs());
  job.mutable_progress()->set_done(progress.succeeded() + progress.failed() + progress.cancelled());
  job.mutable_progress()->set_total(job.spec().array().size());
  job.mutable_progress()->set_unit("elements");
  if (IsEnded(job.state()) || progress.waiting() + progress.live() > 0) {
    return Touch(turn, record);
  }
  if (progress.failed() + progress.cancelled() == 0) {
    return Move(turn, record, JobChange::kFinished, v1::CAUSE_UNSPECIFIED,
                fmt::format("all {} elements succeeded", progress.succeeded()));
  }
  Move(turn, record, JobChange::kFailed, v1::CAUSE_NEED_FAILED,
       fmt::format("{} of {} elements failed, {} were cancelled", progress.failed(),
                   job.spec().array().size(), progress.cancelled()));
}

Readiness JobTable::ReadinessOf(const v1::Job& job) const {
  return coordinator::ReadinessOf(job, [this](const std::string& id) -> const v1::Job& {
    return jobs_.at(*ParseJobId(id)).job();
  });
}

void JobTable::FollowDependents(Turn& turn, uint64_t ended_job) {
  const auto [begin, end] = dependents_.equal_range(ended_job);
  std::vector<uint64_t> followers;
  for (auto it = begin; it != end; ++it) followers.push_back(it->second);
  dependents_.erase(begin, end);
  for (const uint64_t number : followers) Follow(turn, number);
}

void JobTable::Follow(Turn& turn, uint64_t number) {
  v1::JobRecord& record = jobs_.at(number);
  const v1::Job& job = record.job();
  if (job.state() != v1::JOB_STATE_PENDING) return;
  const Readiness readiness = ReadinessOf(job);
  switch (readiness.kind) {
    case Readiness::Kind::kWaits:
      return;
    case Readiness::Kind::kReady:
      if (job.held() || IsArray(job)) return;
      return Move(turn, record, JobChange::kNeedsMet, v1::CAUSE_UNSPECIFIED, "all needs are met");
    case Readiness::Kind::kNever:
      break;
  }
  const v1::Job& other = *readiness.never;
  if (other.state() == v1::JOB_STATE_SUCCEEDED) {
    return Move(turn, record, JobChange::kCancelled, v1::CAUSE_NOT_NEEDED,
                fmt::format("was to run only if {} ('{}') did not succeed, and it did",
                            other.job_id(), other.spec().name()));
  }
  Move(turn, record, JobChange::kNeedFailed, v1::CAUSE_NEED_FAILED,
       fmt::format("needs {} ('{}'), which ended as {}", other.job_id(), other.spec().name(),
                   StateName(other.state())));
}

void JobTable::SetHeld(Turn& turn, v1::JobRecord& record, bool held, const std::string& reason) {
  v1::Job& job = *record.mutable_job();
  job.set_held(held);
  if (held && job.state() == v1::JOB_STATE_QUEUED) {
    Move(turn, record, JobChange::kHeld, v1::CAUSE_HELD, reason);
  } else if (!held && job.state() == v1::JOB_STATE_PENDING && IsReady(job) && !IsArray(job)) {
    Move(turn, record, JobChange::kNeedsMet, v1::CAUSE_UNSPECIFIED, reason);
  } else {
    Note(turn, record, held ? v1::CAUSE_HELD : v1::CAUSE_UNSPECIFIED, reason);
  }
}

void JobTable::Touch(Turn& turn, v1::JobRecord& record) {
  const uint64_t number = *ParseJobId(record.job().job_id());
  Renew(turn, number, *record.mutable_job());
  Save(turn, number, record, nullptr);
}

void JobTable::Renew(Turn& turn, uint64_t number, v1::Job& job) {
  by_revision_.erase({job.revision(), number});
  job.set_revision(NewRevision(turn));
  by_revision_.emplace(job.revision(), number);
}

void JobTable::Note(Turn& turn, v1::JobRecord& record, v1::Cause cause,
                    const std::string& message) {
  v1::Job& job = *record.mutable_job();
  const uint64_t number = *ParseJobId(job.job_id());
  Renew(turn, number, job);
  v1::JobEvent event;
  event.set_revision(job.revision());
  event.set_job_id(job.job_id());
  *event.mutable_time() = ToTimestamp(turn.unix_millis);
  job.set_etag(fmt::format("{:x}", job.revision()));
  event.set_state(job.state());
  event.set_attempt(job.attempt());
  event.set_cause(cause);
  event.set_message(message);
  Save(turn, number, record, &event);
}

int64_t JobTable::NewRevision(Turn& turn) {
  turn.batch.PutRevision(++revision_);
  return revision_;
}

void JobTable::Save(Turn& turn, uint64_t number, const v1::JobRecord& record,
                    const v1::JobEvent* event) {
  turn.batch.PutJob(number, record);
  if (event != nullptr) turn.batch.PutEvent(number, *event);
  const auto wants = [number](const auto& entry) { return entry.second.wants(number); };
  if (std::none_of(watchers_.begin(), watchers_.end(), wants)) return;
  turn.After([this, wants, message = WatchMessageOf(record.job(), event)] {
    for (const auto& entry : watchers_) {
      if (wants(entry)) entry.second.tell(message);
    }
  });
}

std::vector<uint64_t> JobTable::ChangedSince(const std::set<uint64_t>& jobs,
                                             int64_t from_revision) const {
  std::vector<uint64_t> changed;
  if (jobs.empty()) {
    for (auto it = by_revision_.lower_bound({from_revision + 1, 0}); it != by_revision_.end();
         ++it) {
      changed.push_back(it->second);
    }
    return changed;
  }
  for (const uint64_t number : jobs) {
    const auto it = jobs_.find(number);
    if (it != jobs_.end() && it->second.job().revision() > from_revision) {
      changed.push_back(number);
    }
  }
  return changed;
}

absl::StatusOr<std::vector<JobTable::WatchMessage>> JobTable::ChangesSince(
    const std::set<uint64_t>& jobs, int64_t from_revision) {
  std::vector<WatchMessage> messages;
  for (const uint64_t number : ChangedSince(jobs, from_revision)) {
    const v1::Job& job = jobs_.at(number).job();
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

int64_t JobTable::AddWatcher(std::function<bool(uint64_t job)> wants,
                             std::function<void(const WatchMessage&)> tell) {
  watchers_.emplace(next_watcher_, Watcher{std::move(wants), std::move(tell)});
  return next_watcher_++;
}

void JobTable::RemoveWatcher(int64_t id) { watchers_.erase(id); }

}  // namespace moe::coordinator
