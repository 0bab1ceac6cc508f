#include "coordinator/supervisor.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <limits>
#include <utility>

#include "common/check.h"
#include "common/crash_point.h"
#include "common/file.h"
#include "common/net/protocol_version.h"
#include "common/status.h"
#include "coordinator/input_resolver.h"
#include "coordinator/job_spec.h"
#include "coordinator/job_state.h"
#include "coordinator/orphans.h"
#include "coordinator/run_spec.h"
#include "coordinator/timestamp.h"

namespace moe::coordinator {
namespace {

// Decisions on artefacts that are repeated to a rank after a reconnection. A rank waits for one at
// a time; the rest is margin.
constexpr int kMaxDecisions = 16;

bool SameBits(double a, double b) { return std::memcmp(&a, &b, sizeof(a)) == 0; }

}  // namespace

Supervisor::Supervisor(Options options, Parts parts)
    : options_(std::move(options)),
      parts_(parts),
      messages_(parts.jobs, parts.workers),
      outputs_({.jobs = parts.jobs,
                .catalog = parts.catalog,
                .attempts = &attempts_,
                .files = parts.files,
                .file_work = parts.file_work,
                .observer = parts.observer}) {}

absl::Status Supervisor::Load(int64_t monotonic_millis) {
  MOE_RETURN_IF_ERROR(
      parts_.store->ForEachAttempt([&](uint64_t job, int32_t number, v1::AttemptRecord record) {
        Attempt& attempt = attempts_[{job, number}];
        attempt.job = job;
        attempt.number = number;
        attempt.record = std::move(record);
        attempt.ended_millis = monotonic_millis;
        attempt.placed_millis = monotonic_millis;
        attempt.saved_millis = monotonic_millis;
        for (const v1::Placement& placement : attempt.record.placements()) {
          for (const int32_t slot : placement.slots()) {
            AttemptRank& rank = attempt.ranks.emplace_back();
            rank.worker_id = placement.worker_id();
            rank.slot = slot;
            parts_.workers->Hold(rank.worker_id, slot, FormatAttempt(job, number));
          }
          parts_.workers->Expect(placement.worker_id(), monotonic_millis);
        }
      }));
  MOE_RETURN_IF_ERROR(parts_.store->ForEachRank([&](storage::RankKey key, v1::RankRecord record) {
    const auto it = attempts_.find({key.job, key.attempt});
    if (it == attempts_.end()) return;
    AttemptRank& rank = it->second.ranks.at(static_cast<size_t>(key.rank));
    rank.received_seq = record.report_seq();
    rank.record = std::move(record);
  }));
  for (auto& [id, attempt] : attempts_) {
    const v1::JobRecord* record = parts_.jobs->Find(id.first);
    MOE_CHECK(record != nullptr);
    if (record->job().state() == v1::JOB_STATE_STOPPING) {
      attempt.stop_reason = record->job().cause() == v1::CAUSE_PREEMPTED ? "drain" : "cancel";
    }
  }

  return RemoveOrphans(options_.artefact_root, attempts_, *parts_.catalog, parts_.files,
                       parts_.file_work);
}

absl::Status Supervisor::Cancel(Turn& turn, v1::JobRecord& record, const std::string& reason) {
  const v1::Job& job = record.job();
  const std::string text = reason.empty() ? "cancelled" : "cancelled: " + reason;
  schedule_needed_ = true;
  switch (job.state()) {
    case v1::JOB_STATE_PENDING:
    case v1::JOB_STATE_QUEUED:
      parts_.jobs->Move(turn, record, JobChange::kCancelled, v1::CAUSE_CANCELLED, text);
      return absl::OkStatus();
    case v1::JOB_STATE_STARTING:
    case v1::JOB_STATE_RUNNING: {
      parts_.jobs->Move(turn, record, JobChange::kStopAsked, v1::CAUSE_CANCELLED, text);
      const AttemptId id = {*ParseJobId(job.job_id()), job.attempt()};
      messages_.Stop(turn, attempts_.at(id), "cancel", options_.stop_grace_ms);
      Settle(turn, id);
      return absl::OkStatus();
    }
    case v1::JOB_STATE_STOPPING: {
      if (job.cause() == v1::CAUSE_CANCELLED) return absl::OkStatus();
      // It was to come back later, and now it is not.
      record.mutable_job()->set_cause(v1::CAUSE_CANCELLED);
      record.mutable_job()->set_reason(text);
      parts_.jobs->Note(turn, record, v1::CAUSE_CANCELLED, text);
      const AttemptId id = {*ParseJobId(job.job_id()), job.attempt()};
      messages_.Stop(turn, attempts_.at(id), "cancel", options_.stop_grace_ms);
      return absl::OkStatus();
    }
    case v1::JOB_STATE_CANCELLED:
      return absl::OkStatus();
    default:
      return FailedPrecondition("job {} ('{}') has ended as {} and cannot be cancelled",
                                job.job_id(), job.spec().name(), StateName(job.state()));
  }
}

void Supervisor::StopForLater(Turn& turn, v1::JobRecord& record, const std::string& text) {
  v1::Job& job = *record.mutable_job();
  job.set_preemptions(job.preemptions() + 1);
  parts_.jobs->Move(turn, record, JobChange::kStopAsked, v1::CAUSE_PREEMPTED, text);
  const AttemptId id = {*ParseJobId(job.job_id()), job.attempt()};
  messages_.Stop(turn, attempts_.at(id), "drain", options_.preempt_grace_ms);
  Settle(turn, id);
}

absl::Status Supervisor::Preempt(Turn& turn, v1::JobRecord& record, const std::string& reason) {
  const v1::Job& job = record.job();
  const bool stops_already =
      job.state() == v1::JOB_STATE_STOPPING && job.cause() == v1::CAUSE_PREEMPTED;
  if (stops_already) return absl::OkStatus();
  if (job.state() != v1::JOB_STATE_STARTING && job.state() != v1::JOB_STATE_RUNNING) {
    return FailedPrecondition(
        "job {} ('{}') is {} and holds no slots that could be taken; only STARTING and RUNNING "
        "jobs are pre-empted",
        job.job_id(), job.spec().name(), StateName(job.state()));
  }
  StopForLater(turn, record, reason.empty() ? "pre-empted" : "pre-empted: " + reason);
  return absl::OkStatus();
}

absl::Status Supervisor::Hold(Turn& turn, v1::JobRecord& record, const std::string& reason) {
  const v1::Job& job = record.job();
  if (IsEnded(job.state()) || job.cause() == v1::CAUSE_CANCELLED) {
    return FailedPrecondition("job {} ('{}') is {} and cannot be held", job.job_id(),
                              job.spec().name(), StateName(job.state()));
  }
  if (job.held()) return absl::OkStatus();
  const std::string text = reason.empty() ? "held" : "held: " + reason;
  parts_.jobs->SetHeld(turn, record, true, text);
  schedule_needed_ = true;
  if (job.state() == v1::JOB_STATE_STARTING || job.state() == v1::JOB_STATE_RUNNING) {
    StopForLater(turn, record, text);
  }
  return absl::OkStatus();
}

absl::Status Supervisor::Release(Turn& turn, v1::JobRecord& record) {
  const v1::Job& job = record.job();
  if (IsEnded(job.state())) {
    return FailedPrecondition("job {} ('{}') has ended as {}; there is nothing to release",
                              job.job_id(), job.spec().name(), StateName(job.state()));
  }
  if (!job.held()) return absl::OkStatus();
  parts_.jobs->SetHeld(turn, record, false, "released");
  schedule_needed_ = true;
  return absl::OkStatus();
}

// ---------------------------------------------------------------------------------------------
// Placement

void Supervisor::Schedule(Turn& turn) {
  ScheduleSnapshot snapshot = Snapshot(turn.unix_millis, turn.monotonic_millis);
  preemption_millis_ = kNever;
  if (snapshot.queue.empty()) return;

  const auto start = std::chrono::steady_clock::now();
  const coordinator::Schedule schedule = PlanSchedule(std::move(snapshot), options_.policy);
  parts_.observer->OnSchedulePass(
      std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
  if (schedule.next_preemption_seconds >= 0) {
    preemption_millis_ =
        turn.monotonic_millis + static_cast<int64_t>(schedule.next_preemption_seconds * 1000) + 1;
  }
  for (const PlacedJob& placed : schedule.placed) {
    Place(turn, *parts_.jobs->Find(placed.job_id), placed.grants);
  }
  for (const WaitingJob& waiting : schedule.waiting) {
    v1::JobRecord& record = *parts_.jobs->Find(waiting.job_id);
    v1::Job& job = *record.mutable_job();
    if (job.cause() == v1::CAUSE_NO_FREE_SLOTS && job.reason() == waiting.reason) continue;
    job.set_cause(v1::CAUSE_NO_FREE_SLOTS);
    job.set_reason(waiting.reason);
    parts_.jobs->Touch(turn, record);
  }
  for (const PreemptedJob& preempted : schedule.preempted) {
    const v1::Job& taker = parts_.jobs->Find(preempted.for_job_id)->job();
    v1::JobRecord& record = *parts_.jobs->Find(preempted.job_id);
    StopForLater(
        turn, record,
        fmt::format("pre-empted for {} ('{}', priority {} above {})", taker.job_id(),
                    taker.spec().name(), taker.spec().priority(), record.job().spec().priority()));
  }
}

ScheduleSnapshot Supervisor::Snapshot(int64_t unix_millis, int64_t monotonic_millis) {
  retry_unix_millis_ = kNever;
  ScheduleSnapshot snapshot;
  snapshot.workers = parts_.workers->Snapshot(monotonic_millis);
  for (const uint64_t number : parts_.jobs->queued()) {
    const v1::JobRecord& record = *parts_.jobs->Find(number);
    const auto attempt = attempts_.lower_bound({number, 0});
    const bool lingers = attempt != attempts_.end() && attempt->first.first == number;
    if (lingers) continue;
    // A wait longer than any back-off means that the wall clock was set back.
    const int64_t wait_ms = record.retry_unix_millis() - unix_millis;
    if (wait_ms > 0 && wait_ms <= options_.max_retry_backoff_ms) {
      retry_unix_millis_ = std::min(retry_unix_millis_, record.retry_unix_millis());
      continue;
    }
    QueuedJob& job = snapshot.queue.emplace_back();
    job.job_id = record.job().job_id();
    job.priority = record.job().spec().priority();
    job.submit_order = number;
    job.slots = record.job().spec().resources().slots();
    job.excluded_workers = WorkersToAvoid(number, job.slots, snapshot.workers);
  }
  for (const auto& [id, attempt] : attempts_) {
    const v1::Job& job = JobOf(attempt).job();
    PlacedNow& placed = snapshot.placed.emplace_back();
    placed.job_id = job.job_id();
    placed.priority = job.spec().priority();
    const v1::Resources& resources = job.spec().resources();
    placed.preemptible = !resources.has_preemptible() || resources.preemptible();
    placed.stopping = attempt.record.ended() || !attempt.stop_reason.empty();
    const auto since = [&](int64_t millis) {
      return static_cast<double>(monotonic_millis - millis) / 1000.0;
    };
    placed.running_seconds = since(attempt.placed_millis);
    placed.lost_work_seconds = since(attempt.saved_millis);
    for (const AttemptRank& rank : attempt.ranks) placed.slot_workers.push_back(rank.worker_id);
  }
  return snapshot;
}

std::vector<std::string> Supervisor::WorkersToAvoid(uint64_t job, int32_t slots,
                                                    const std::vector<WorkerSlots>& workers) const {
  const auto failures = failures_on_.find(job);
  if (failures == failures_on_.end()) return {};
  std::vector<std::string> avoided;
  for (const auto& [worker, count] : failures->second) {
    if (count >= options_.failures_to_avoid_worker) avoided.push_back(worker);
  }
  int64_t elsewhere = 0;
  for (const WorkerSlots& worker : workers) {
    if (std::count(avoided.begin(), avoided.end(), worker.worker_id) == 0) {
      elsewhere += worker.total;
    }
  }
  if (elsewhere < slots) return {};
  return avoided;
}

v1::ExplainJobResponse Supervisor::Explain(const v1::JobRecord& record, int64_t unix_millis,
                                           int64_t monotonic_millis) {
  v1::ExplainJobResponse response;
  *response.mutable_job() = record.job();
  ScheduleSnapshot snapshot = Snapshot(unix_millis, monotonic_millis);
  for (const WorkerSlots& worker : snapshot.workers) {
    response.set_total_slots(response.total_slots() + worker.total);
    response.set_free_slots(response.free_slots() + static_cast<int32_t>(worker.free.size()));
  }
  if (record.job().state() != v1::JOB_STATE_QUEUED) return response;
  if (record.retry_unix_millis() > unix_millis) {
    *response.mutable_retry_time() = ToTimestamp(record.retry_unix_millis());
  }
  const coordinator::Schedule schedule = PlanSchedule(std::move(snapshot), options_.policy);
  for (const WaitingJob& waiting : schedule.waiting) {
    if (waiting.job_id == record.job().job_id()) break;
    response.add_ahead_job_ids(waiting.job_id);
  }
  for (const PreemptedJob& preempted : schedule.preempted) {
    if (preempted.for_job_id == record.job().job_id()) {
      response.add_preempted_job_ids(preempted.job_id);
    }
  }
  return response;
}

void Supervisor::Place(Turn& turn, v1::JobRecord& record, const std::vector<SlotGrant>& grants) {
  v1::Job& job = *record.mutable_job();
  const auto inputs = ResolveInputs(job, *parts_.jobs, *parts_.catalog);
  absl::Status usable = inputs.ok() ? CheckInputs(*inputs) : inputs.status();
  if (usable.ok()) usable = parts_.sampler->Settle(record, *inputs);
  if (!usable.ok()) {
    parts_.jobs->Move(turn, record, JobChange::kFailed, v1::CAUSE_BAD_INPUT, Message(usable));
    schedule_needed_ = true;  // the slots are free for the next
    return;
  }

  const uint64_t number = *ParseJobId(job.job_id());
  job.set_attempt(job.attempt() + 1);
  Attempt& attempt = attempts_[{number, job.attempt()}];
  attempt.job = number;
  attempt.number = job.attempt();
  attempt.placed_millis = turn.monotonic_millis;
  attempt.saved_millis = turn.monotonic_millis;
  job.clear_placements();
  std::vector<std::string> places;
  for (const SlotGrant& grant : grants) {
    v1::Placement& placement = *job.add_placements();
    placement.set_worker_id(grant.worker_id);
    for (const int32_t slot : grant.slots) {
      placement.add_slots(slot);
      AttemptRank& rank = attempt.ranks.emplace_back();
      rank.worker_id = grant.worker_id;
      rank.slot = slot;
      parts_.workers->Hold(grant.worker_id, slot, FormatAttempt(number, job.attempt()));
    }
    places.push_back(fmt::format("{} (slot {})", grant.worker_id, fmt::join(grant.slots, ", ")));
  }
  attempt.record.mutable_placements()->CopyFrom(job.placements());

  RunSpecFacts facts;
  facts.world_size = static_cast<int32_t>(attempt.ranks.size());
  facts.lease_ttl_ms = parts_.workers->options().lease_ttl_ms;
  facts.output_dir = JoinPath(JoinPath(options_.artefact_root, KindName(OutputKind(job.spec()))),
                              FormatAttempt(number, job.attempt()));
  facts.inputs = *inputs;
  if (const v1::Artefact* resume = record.resume_artefact().empty()
                                       ? nullptr
                                       : parts_.catalog->Find(record.resume_artefact())) {
    facts.resume = *resume;
  }
  facts.reference_losses = {record.sampler().reference_losses().begin(),
                            record.sampler().reference_losses().end()};
  facts.decisions = parts_.sampler->JournalOf(number);
  for (const auto& [field, input] : facts.inputs) {
    if (input.artefact.has_value()) {
      attempt.record.add_input_artefacts(ArtefactReference(*input.artefact));
    }
  }
  attempt.record.set_output_dir(facts.output_dir);
  attempt.record.set_run_spec_json(BuildRunSpec(job, facts));
  turn.batch.PutAttempt(number, attempt.number, attempt.record);

  const int64_t queued_since =
      std::max(ToUnixMillis(job.create_time()), record.retry_unix_millis());
  parts_.observer->OnPlaced(job, static_cast<double>(turn.unix_millis - queued_since) / 1000.0);
  parts_.jobs->Move(
      turn, record, JobChange::kPlaced, v1::CAUSE_UNSPECIFIED,
      fmt::format(
          "attempt {} on {}{}", attempt.number, fmt::join(places, ", "),
          facts.resume.has_value() ? fmt::format(", from step {}", facts.resume->step()) : ""));
  for (const std::string& worker : WorkersOf(attempt)) messages_.Start(turn, attempt, worker);
}

// ---------------------------------------------------------------------------------------------
// From workers

absl::Status Supervisor::OnRegister(Turn& turn, const v1::Register& hello,
                                    std::shared_ptr<WorkerSession> session) {
  if (hello.protocol_version() != kProtocolVersion) {
    return FailedPrecondition(
        "worker '{}' speaks protocol {}, this coordinator {}; install the same release on both",
        hello.worker_id(), hello.protocol_version(), kProtocolVersion);
  }
  if (hello.worker_id().empty()) return InvalidArgument("register.worker_id is missing");
  if (hello.slots().empty()) {
    return InvalidArgument("worker '{}' registers no slots; it needs at least one",
                           hello.worker_id());
  }
  const std::string& worker_id = hello.worker_id();
  spdlog::info("worker={} host={} slots={} attempts={} registered", worker_id, hello.host(),
               hello.slots_size(), hello.attempts_size());
  parts_.workers->Register(turn, hello, std::move(session));
  schedule_needed_ = true;

  v1::SessionResponse message;
  v1::Registered& registered = *message.mutable_registered();
  const WorkerRegistry::Options& options = parts_.workers->options();
  registered.set_lease_ttl_ms(static_cast<int32_t>(options.lease_ttl_ms));
  registered.set_heartbeat_interval_ms(static_cast<int32_t>(options.heartbeat_interval_ms));
  std::set<AttemptId> named;
  std::vector<v1::AttemptRef> void_attempts;
  for (const v1::AttemptRef& ref : hello.attempts()) {
    const std::optional<uint64_t> job = ParseJobId(ref.job_id());
    const auto it = attempts_.find({job.value_or(0), ref.attempt()});
    if (it == attempts_.end() || !WorkersOf(it->second).contains(worker_id)) {
      void_attempts.push_back(ref);
      continue;
    }
    named.insert(it->first);
    for (size_t rank = 0; rank < it->second.ranks.size(); ++rank) {
      const AttemptRank& state = it->second.ranks[rank];
      if (state.worker_id != worker_id) continue;
      v1::AttemptCursor& cursor = *registered.add_cursors();
      *cursor.mutable_attempt() = ref;
      cursor.set_rank(static_cast<int32_t>(rank));
      cursor.set_report_seq(state.record.report_seq());
      cursor.set_log_offset(state.record.log_offset());
    }
  }
  parts_.workers->Send(turn, worker_id, std::move(message));
  for (const v1::AttemptRef& ref : void_attempts) messages_.Forget(turn, ref, worker_id);

  std::vector<AttemptId> ids;
  for (const auto& [id, attempt] : attempts_) ids.push_back(id);
  for (const AttemptId& id : ids) {
    const auto it = attempts_.find(id);
    if (it == attempts_.end() || !WorkersOf(it->second).contains(worker_id)) continue;
    Attempt& attempt = it->second;
    bool reported = false;
    for (const AttemptRank& rank : attempt.ranks) {
      reported |= rank.worker_id == worker_id && (rank.received_seq > 0 || rank.record.gone());
    }
    if (!reported && !attempt.record.ended() && attempt.stop_reason.empty()) {
      messages_.Start(turn, attempt, worker_id);
    } else if (!named.contains(id)) {
      LoseAttemptOn(turn, attempt, worker_id,
                    fmt::format("worker '{}' came back without it", worker_id));
      continue;
    }
    // Anything sent to the session before may have been lost with it.
    for (size_t rank = 0; rank < attempt.ranks.size(); ++rank) {
      if (attempt.ranks[rank].worker_id != worker_id) continue;
      for (const v1::ArtefactDecision& decision : attempt.ranks[rank].record.decisions()) {
        messages_.Decision(turn, attempt, static_cast<int32_t>(rank), decision);
      }
      const Journal& journal = parts_.sampler->JournalOf(id.first);
      if (rank == 0 && !journal.empty()) {
        messages_.Mixture(turn, attempt, journal.back());
        parts_.observer->OnDecision(JobOf(attempt).job(), journal.back());
      }
    }
    MOE_ASSIGN_OR_RETURN(const auto values, parts_.store->ListRendezvous(id.first, id.second));
    for (const auto& [key, value] : values)
      messages_.Rendezvous(turn, attempt, worker_id, key, value);
    if (!attempt.stop_reason.empty()) {
      messages_.Stop(turn, attempt, attempt.stop_reason, options_.stop_grace_ms);
    }
  }
  return absl::OkStatus();
}

void Supervisor::OnHeartbeat(Turn& turn, const std::string& worker_id,
                             const v1::Heartbeat& heartbeat) {
  if (parts_.workers->StateOf(worker_id, turn.monotonic_millis) != v1::WORKER_STATE_READY) {
    schedule_needed_ = true;
  }
  parts_.workers->Heartbeat(turn, worker_id);
  v1::SessionResponse message;
  message.mutable_heartbeat_ack()->set_seq(heartbeat.seq());
  parts_.workers->Send(turn, worker_id, std::move(message));
  for (const auto& [id, attempt] : attempts_) {
    if (attempt.record.ended() || !attempt.stop_reason.empty()) continue;
    const bool silent =
        std::any_of(attempt.ranks.begin(), attempt.ranks.end(), [&](const AttemptRank& rank) {
          return rank.worker_id == worker_id && rank.received_seq == 0 && !rank.settled();
        });
    if (silent) messages_.Start(turn, attempt, worker_id);
  }
}

Attempt* Supervisor::FindOn(const v1::AttemptRef& ref, int32_t rank, const std::string& worker_id) {
  const auto it = attempts_.find({ParseJobId(ref.job_id()).value_or(0), ref.attempt()});
  if (it == attempts_.end()) return nullptr;
  Attempt& attempt = it->second;
  if (rank < 0 || rank >= static_cast<int32_t>(attempt.ranks.size())) return nullptr;
  return attempt.ranks[static_cast<size_t>(rank)].worker_id == worker_id ? &attempt : nullptr;
}

absl::Status Supervisor::OnReports(Turn& turn, const std::string& worker_id,
                                   const v1::ReportBatch& batch) {
  Attempt* attempt = FindOn(batch.attempt(), batch.rank(), worker_id);
  if (attempt == nullptr) {
    parts_.observer->OnStaleMessage();
    messages_.Forget(turn, batch.attempt(), worker_id);
    return absl::OkStatus();
  }
  AttemptRank& rank = attempt->ranks[static_cast<size_t>(batch.rank())];
  for (const v1::RankReport& report : batch.reports()) {
    if (report.seq() <= rank.received_seq) continue;  // sent again after a reconnection
    if (report.seq() != rank.received_seq + 1) {
      return Aborted("reports of {} rank {} jump from {} to {}; register again to learn the cursor",
                     FormatAttempt(attempt->job, attempt->number), batch.rank(), rank.received_seq,
                     report.seq());
    }
    rank.received_seq = report.seq();
    rank.pending.push_back(report);
  }
  Drain(turn, *attempt, batch.rank());
  return absl::OkStatus();
}

absl::Status Supervisor::OnLog(Turn& turn, const std::string& worker_id,
                               const v1::LogChunk& chunk) {
  Attempt* attempt = FindOn(chunk.attempt(), chunk.rank(), worker_id);
  if (attempt == nullptr) {
    parts_.observer->OnStaleMessage();
    messages_.Forget(turn, chunk.attempt(), worker_id);
    return absl::OkStatus();
  }
  v1::RankRecord& record = attempt->ranks[static_cast<size_t>(chunk.rank())].record;
  const int64_t known = record.log_offset();
  const int64_t end = chunk.offset() + static_cast<int64_t>(chunk.data().size());
  if (chunk.offset() > known) {
    return Aborted("the log of {} rank {} jumps from byte {} to {}; register again",
                   FormatAttempt(attempt->job, attempt->number), chunk.rank(), known,
                   chunk.offset());
  }
  if (end > known) {
    const storage::RankKey key = {attempt->job, attempt->number, chunk.rank()};
    turn.batch.PutLog(key, known, chunk.data().substr(static_cast<size_t>(known - chunk.offset())));
    record.set_log_offset(end);
    SaveRank(turn, *attempt, chunk.rank());
    log_followers_.Tell(turn, attempt->job);
  }
  v1::SessionResponse message;
  v1::LogAck& ack = *message.mutable_log_ack();
  *ack.mutable_attempt() = chunk.attempt();
  ack.set_rank(chunk.rank());
  ack.set_offset(record.log_offset());
  parts_.workers->Send(turn, worker_id, std::move(message));
  return absl::OkStatus();
}

void Supervisor::OnRankExited(Turn& turn, const std::string& worker_id,
                              const v1::RankExited& exited) {
  Attempt* attempt = FindOn(exited.attempt(), exited.rank(), worker_id);
  if (attempt == nullptr) {
    parts_.observer->OnStaleMessage();
    messages_.Forget(turn, exited.attempt(), worker_id);
    return;
  }
  attempt->ranks[static_cast<size_t>(exited.rank())].exited = exited;
  Drain(turn, *attempt, exited.rank());
}

// ---------------------------------------------------------------------------------------------
// Reports

void Supervisor::SaveRank(Turn& turn, const Attempt& attempt, int32_t rank) {
  turn.batch.PutRank({attempt.job, attempt.number, rank},
                     attempt.ranks[static_cast<size_t>(rank)].record);
}

void Supervisor::Drain(Turn& turn, Attempt& attempt, int32_t rank) {
  AttemptRank& state = attempt.ranks[static_cast<size_t>(rank)];
  bool applied = false;
  while (!state.pending.empty() && !state.checking) {
    const v1::RankReport report = std::move(state.pending.front());
    state.pending.pop_front();
    if (report.has_artefact()) {
      CheckArtefact(turn, attempt, rank, report);
      continue;
    }
    Apply(turn, attempt, rank, report);
    state.record.set_report_seq(report.seq());
    applied = true;
  }
  if (applied) SaveRank(turn, attempt, rank);
  messages_.Acknowledge(turn, attempt, rank);
  if (state.exited.has_value() && !state.checking && !state.record.gone()) {
    ApplyExit(turn, attempt, rank);
  }
  Settle(turn, attempt.id());
}

void Supervisor::Apply(Turn& turn, Attempt& attempt, int32_t rank, const v1::RankReport& report) {
  v1::RankRecord& record = attempt.ranks[static_cast<size_t>(rank)].record;
  // The rank's last word is kept whatever happened to the attempt.
  switch (report.event_case()) {
    case v1::RankReport::kFinished:
      *record.mutable_finished() = report.finished();
      return;
    case v1::RankReport::kFailed:
      *record.mutable_failed() = report.failed();
      if (!attempt.first_to_fail.has_value()) attempt.first_to_fail = rank;
      return;
    case v1::RankReport::kStopped:
      if (record.has_failed()) return;  // why it was told to stop
      *record.mutable_stopped() = report.stopped();
      if (!attempt.first_to_fail.has_value()) attempt.first_to_fail = rank;
      return;
    default:
      break;
  }
  if (attempt.record.ended()) return;

  v1::JobRecord& job_record = JobOf(attempt);
  switch (report.event_case()) {
    case v1::RankReport::kStarted: {
      record.set_started(true);
      const bool all_up = std::all_of(attempt.ranks.begin(), attempt.ranks.end(),
                                      [](const AttemptRank& r) { return r.record.started(); });
      if (all_up && job_record.job().state() == v1::JOB_STATE_STARTING) {
        parts_.jobs->Move(turn, job_record, JobChange::kRanksUp, v1::CAUSE_UNSPECIFIED,
                          fmt::format("running on {}", report.started().device()));
      }
      return;
    }
    case v1::RankReport::kProgress: {
      if (rank != 0) return;
      v1::JobProgress progress = report.progress();
      if (!progress.has_last_step() && job_record.job().progress().has_last_step()) {
        *progress.mutable_last_step() = job_record.job().progress().last_step();
      }
      *job_record.mutable_job()->mutable_progress() = std::move(progress);
      parts_.jobs->Touch(turn, job_record);
      return;
    }
    case v1::RankReport::kStep:
      if (rank == 0) ApplyStep(turn, attempt, report.step());
      return;
    case v1::RankReport::kWarning:
      if (rank != 0) return;
      parts_.jobs->Note(turn, job_record, v1::CAUSE_UNSPECIFIED,
                        fmt::format("step {}, {}: {}", report.warning().step(),
                                    report.warning().kind(), report.warning().text()));
      parts_.observer->OnWarning(job_record.job(), report.warning());
      return;
    case v1::RankReport::kDomainLosses:
      if (rank == 0) ApplyDomainLosses(turn, attempt, report.domain_losses());
      return;
    case v1::RankReport::kCheckpointFailed:
      parts_.jobs->Note(
          turn, job_record, v1::CAUSE_STORAGE,
          fmt::format("the checkpoint at step {} failed: {}", report.checkpoint_failed().step(),
                      report.checkpoint_failed().error()));
      parts_.observer->OnCheckpointFailed(job_record.job());
      return;
    case v1::RankReport::kRendezvousPut: {
      const v1::RendezvousPut& put = report.rendezvous_put();
      turn.batch.PutRendezvous(attempt.job, attempt.number, put.key(), put.value());
      for (const std::string& worker : WorkersOf(attempt)) {
        messages_.Rendezvous(turn, attempt, worker, put.key(), put.value());
      }
      return;
    }
    default:
      spdlog::warn(
          "attempt={} rank={} seq={} is a report of a kind that this coordinator does not "
          "know",
          FormatAttempt(attempt.job, attempt.number), rank, report.seq());
      return;
  }
}

void Supervisor::ApplyStep(Turn& turn, Attempt& attempt, const v1::StepReport& step) {
  v1::JobRecord& record = JobOf(attempt);
  v1::JobProgress& progress = *record.mutable_job()->mutable_progress();
  // A step that was computed again after a resume must give the numbers of the first time.
  const auto before = parts_.store->FindStep(attempt.job, step.step());
  if (!before.ok()) {
    spdlog::error("job={} step={} cannot be compared with earlier attempts: {}",
                  FormatJobId(attempt.job), step.step(), Message(before.status()));
  } else if (before->has_value() && !SameBits((*before)->loss(), step.loss())) {
    spdlog::warn("job={} step={} loss={:.17g} differs from loss={:.17g} of an earlier attempt",
                 FormatJobId(attempt.job), step.step(), step.loss(), (*before)->loss());
    parts_.observer->OnReplayMismatch(record.job());
  }
  turn.batch.PutStep(attempt.job, step);
  progress.set_done(step.step());
  progress.set_total(record.job().spec().train().steps());
  progress.set_unit("steps");
  progress.set_phase("training");
  *progress.mutable_last_step() = step;
  progress.mutable_last_step()->clear_routing();
  parts_.jobs->Touch(turn, record);
  parts_.observer->OnStep(record.job(), step);
}

void Supervisor::ApplyDomainLosses(Turn& turn, Attempt& attempt, const v1::DomainLosses& losses) {
  v1::JobRecord& record = JobOf(attempt);
  const absl::StatusOr<v1::SamplerDecision> decision =
      parts_.sampler->Decide(turn, record, attempt.number, losses);
  if (!decision.ok()) {
    // The rank waits for weights that it will not get.
    v1::RankFailed& failed = *attempt.ranks.front().record.mutable_failed();
    failed.set_cause(v1::CAUSE_BAD_INPUT);
    failed.set_error(fmt::format("no new domain weights: {}", Message(decision.status())));
    if (!attempt.first_to_fail.has_value()) attempt.first_to_fail = 0;
    return;
  }
  CrashPoint("sampler_before_commit");
  turn.After([] { CrashPoint("sampler_after_commit"); });
  messages_.Mixture(turn, attempt, *decision);
  parts_.observer->OnDecision(record.job(), *decision);
}

void Supervisor::ApplyExit(Turn& turn, Attempt& attempt, int32_t rank) {
  AttemptRank& state = attempt.ranks[static_cast<size_t>(rank)];
  if (!state.settled() && !attempt.first_to_fail.has_value()) attempt.first_to_fail = rank;
  state.record.set_gone(true);
  state.record.set_gone_message(ExitText(rank, *state.exited));
  SaveRank(turn, attempt, rank);
}

// ---------------------------------------------------------------------------------------------
// Artefacts

void Supervisor::CheckArtefact(Turn& turn, Attempt& attempt, int32_t rank,
                               const v1::RankReport& report) {
  attempt.ranks[static_cast<size_t>(rank)].checking = true;
  turn.After([this, id = attempt.id(), rank, report] {
    parts_.file_work->Post([this, id, rank, report] {
      const absl::Status checked = parts_.files->Check(report.artefact());
      parts_.queue->Change([this, id, rank, report, checked](Turn& turn) {
        Decide(turn, id, rank, report, checked);
      });
    });
  });
}

void Supervisor::Decide(Turn& turn, AttemptId id, int32_t rank, const v1::RankReport& report,
                        const absl::Status& checked) {
  const auto it = attempts_.find(id);
  if (it == attempts_.end()) return;  // lost meanwhile; its folder is removed as an orphan
  Attempt& attempt = it->second;
  AttemptRank& state = attempt.ranks[static_cast<size_t>(rank)];
  state.checking = false;

  absl::Status decision = outputs_.Refuse(attempt, report.artefact());
  if (decision.ok()) decision = checked;
  if (decision.ok()) {
    outputs_.Commit(turn, attempt, report.artefact());
    attempt.saved_millis = turn.monotonic_millis;
  } else if (!attempt.record.ended()) {
    parts_.jobs->Note(
        turn, JobOf(attempt), v1::CAUSE_STORAGE,
        fmt::format("{} was refused: {}", report.artefact().path(), Message(decision)));
    if (report.artefact().kind() == v1::ARTEFACT_KIND_CHECKPOINT) {
      parts_.observer->OnCheckpointFailed(JobOf(attempt).job());
    }
  }
  if (state.record.decisions_size() >= kMaxDecisions) {
    state.record.mutable_decisions()->DeleteSubrange(0, 1);
  }
  v1::ArtefactDecision& stored = *state.record.add_decisions();
  stored.set_path(report.artefact().path());
  stored.set_committed(decision.ok());
  stored.set_error(Message(decision));
  state.record.set_report_seq(report.seq());
  SaveRank(turn, attempt, rank);
  messages_.Decision(turn, attempt, rank, stored);
  Drain(turn, attempt, rank);
}

// ---------------------------------------------------------------------------------------------
// The end of attempts

void Supervisor::Settle(Turn& turn, AttemptId id) {
  const auto it = attempts_.find(id);
  if (it == attempts_.end()) return;
  Attempt& attempt = it->second;
  const auto& ranks = attempt.ranks;
  const bool all_gone =
      std::all_of(ranks.begin(), ranks.end(), [](const AttemptRank& r) { return r.record.gone(); });
  if (!attempt.record.ended()) {
    const bool all_settled =
        std::all_of(ranks.begin(), ranks.end(), [](const AttemptRank& r) { return r.settled(); });
    const bool all_finished = std::all_of(
        ranks.begin(), ranks.end(), [](const AttemptRank& r) { return r.record.has_finished(); });
    const bool any_failed = std::any_of(ranks.begin(), ranks.end(), [](const AttemptRank& r) {
      return r.settled() && !r.record.has_finished();
    });
    v1::JobRecord& record = JobOf(attempt);
    const bool cancelling = record.job().state() == v1::JOB_STATE_STOPPING &&
                            record.job().cause() == v1::CAUSE_CANCELLED;
    if (cancelling) {
      if (all_gone) {
        parts_.jobs->Move(turn, record, JobChange::kStopped, v1::CAUSE_CANCELLED,
                          record.job().reason());
        MarkEnded(turn, attempt);
      }
    } else if (all_finished && !parts_.catalog->MadeBy(record.job().job_id()).empty()) {
      const std::string& summary = ranks.front().record.finished().summary();
      parts_.jobs->Move(turn, record, JobChange::kFinished, v1::CAUSE_UNSPECIFIED,
                        summary.empty() ? "finished" : summary);
      MarkEnded(turn, attempt);
    } else if (all_finished) {
      EndBadly(turn, attempt,
               {v1::CAUSE_INTERNAL, "all ranks finished, but no output was committed"});
    } else if (all_settled && record.job().state() == v1::JOB_STATE_STOPPING) {
      // What a rank says of an end that was asked for counts only where it forbids another attempt.
      const Failure failure = WorstFailure(attempt);
      const bool forbids = DecideAfter(failure.cause) == AfterCause::kFail;
      EndBadly(turn, attempt,
               forbids ? failure : Failure{v1::CAUSE_PREEMPTED, record.job().reason()});
    } else if (all_settled) {
      EndBadly(turn, attempt, WorstFailure(attempt));
    } else if (any_failed && attempt.stop_reason.empty()) {
      messages_.Stop(turn, attempt, "cancel", options_.stop_grace_ms);
    }
  }
  if (all_gone) Retire(turn, attempt);
}

void Supervisor::EndBadly(Turn& turn, Attempt& attempt, const Failure& failure) {
  v1::JobRecord& record = JobOf(attempt);
  v1::Job& job = *record.mutable_job();
  const AfterCause after = DecideAfter(failure.cause);
  if (after == AfterCause::kRetryCounted) {
    job.set_infrastructure_failures(job.infrastructure_failures() + 1);
    if (attempt.first_to_fail.has_value()) {
      const auto rank = static_cast<size_t>(*attempt.first_to_fail);
      ++failures_on_[attempt.job][attempt.ranks[rank].worker_id];
    }
  }
  const int32_t limit = job.spec().max_infrastructure_retries();
  if (after == AfterCause::kFail) {
    parts_.jobs->Move(turn, record, JobChange::kFailed, failure.cause, failure.reason);
  } else if (job.infrastructure_failures() > limit) {
    parts_.jobs->Move(
        turn, record, JobChange::kFailed, failure.cause,
        fmt::format("{}; no more attempts: max_infrastructure_retries={}", failure.reason, limit));
  } else {
    int64_t delay_ms = 0;
    if (after == AfterCause::kRetryCounted) {
      const int doublings = std::min(job.infrastructure_failures() - 1, 20);
      delay_ms = std::min(options_.max_retry_backoff_ms, options_.retry_backoff_ms << doublings);
    }
    record.set_retry_unix_millis(turn.unix_millis + delay_ms);
    parts_.jobs->Move(turn, record, JobChange::kAnotherAttempt, failure.cause,
                      delay_ms == 0
                          ? failure.reason
                          : fmt::format("{}; another attempt after {:.1f} s", failure.reason,
                                        static_cast<double>(delay_ms) / 1000.0));
    if (job.held()) {
      parts_.jobs->Move(turn, record, JobChange::kHeld, v1::CAUSE_HELD, "held");
    }
  }
  MarkEnded(turn, attempt);
}

void Supervisor::MarkEnded(Turn& turn, Attempt& attempt) {
  attempt.record.set_ended(true);
  schedule_needed_ = true;  // for the jobs that need this one
  attempt.ended_millis = turn.monotonic_millis;
  turn.batch.PutAttempt(attempt.job, attempt.number, attempt.record);
  if (IsEnded(JobOf(attempt).job().state())) failures_on_.erase(attempt.job);
  spdlog::info("job={} attempt={} state={} {}", FormatJobId(attempt.job), attempt.number,
               StateName(JobOf(attempt).job().state()), JobOf(attempt).job().reason());
}

void Supervisor::Retire(Turn& turn, Attempt& attempt) {
  for (const AttemptRank& rank : attempt.ranks) parts_.workers->Release(rank.worker_id, rank.slot);
  for (const std::string& worker : WorkersOf(attempt)) {
    messages_.Forget(turn, RefOf(attempt.id()), worker);
  }
  turn.batch.DeleteAttempt(attempt.job, attempt.number);
  std::set<std::string> keep;
  for (const v1::Artefact* artefact : parts_.catalog->MadeBy(FormatJobId(attempt.job))) {
    keep.insert(artefact->path());
  }
  std::set<std::string> inside;
  for (const std::string& path : keep) {
    if (IsInside(path, attempt.record.output_dir())) inside.insert(path);
  }
  turn.After([this, dir = attempt.record.output_dir(), inside] {
    parts_.file_work->Post(
        [files = parts_.files, dir, inside] { files->RemoveOthers(dir, inside); });
  });
  const uint64_t job = attempt.job;
  attempts_.erase(attempt.id());
  log_followers_.Tell(turn, job);
  schedule_needed_ = true;
}

void Supervisor::LoseAttemptOn(Turn& turn, Attempt& attempt, const std::string& worker_id,
                               const std::string& why) {
  for (size_t rank = 0; rank < attempt.ranks.size(); ++rank) {
    AttemptRank& state = attempt.ranks[rank];
    if (state.worker_id != worker_id || state.record.gone()) continue;
    if (!state.settled() && !attempt.first_to_fail.has_value()) {
      attempt.first_to_fail = static_cast<int>(rank);
    }
    state.record.set_gone(true);
    state.record.set_lost(true);
    state.record.set_gone_message(why);
    SaveRank(turn, attempt, static_cast<int32_t>(rank));
  }
  Settle(turn, attempt.id());
}

void Supervisor::LoseRanksOn(Turn& turn, const std::string& worker_id) {
  const WorkerRegistry::Options& options = parts_.workers->options();
  const std::string why =
      fmt::format("worker '{}' was not heard of for {:.1f} s", worker_id,
                  static_cast<double>(options.lease_ttl_ms + options.lease_margin_ms) / 1000.0);
  spdlog::warn("{}; its attempts end", why);
  std::vector<AttemptId> ids;
  for (const auto& [id, attempt] : attempts_) {
    if (WorkersOf(attempt).contains(worker_id)) ids.push_back(id);
  }
  for (const AttemptId& id : ids) LoseAttemptOn(turn, attempts_.at(id), worker_id, why);
  schedule_needed_ = true;
}

// ---------------------------------------------------------------------------------------------
// Time

void Supervisor::BeforeCommit(Turn& turn) {
  for (const std::string& worker : parts_.workers->TakeLost(turn.monotonic_millis)) {
    LoseRanksOn(turn, worker);
  }
  int64_t next = parts_.workers->NextExpiryMillis();
  for (auto& [id, attempt] : attempts_) {
    if (!attempt.record.ended()) continue;
    // The outcome is known, yet a rank does not go: end it.
    const int64_t deadline = attempt.ended_millis + options_.stop_grace_ms;
    if (turn.monotonic_millis >= deadline) {
      messages_.Stop(turn, attempt, "cancel", 0);
      attempt.ended_millis = turn.monotonic_millis;
    }
    next = std::min(next, attempt.ended_millis + options_.stop_grace_ms);
  }
  if (turn.unix_millis >= retry_unix_millis_) schedule_needed_ = true;
  if (turn.monotonic_millis >= preemption_millis_) schedule_needed_ = true;
  while (schedule_needed_) {
    schedule_needed_ = false;
    Schedule(turn);
  }
  if (retry_unix_millis_ != kNever) {
    next = std::min(next, turn.monotonic_millis + (retry_unix_millis_ - turn.unix_millis));
  }
  next_deadline_millis_ = std::min(next, preemption_millis_);
}

}  // namespace moe::coordinator
