#include "coordinator/placement.h"

#include <algorithm>
#include <chrono>
#include <utility>

#include "common/file.h"
#include "common/status.h"
#include "coordinator/input_resolver.h"
#include "coordinator/job_spec.h"
#include "coordinator/job_state.h"
#include "coordinator/outlook.h"
#include "coordinator/outputs.h"
#include "coordinator/timestamp.h"

namespace moe::coordinator {

int64_t Placement::Run(Turn& turn) {
  if (turn.unix_millis >= retry_unix_millis_ || turn.monotonic_millis >= preemption_millis_) {
    parts_.doorbell->Ring();
  }
  if (turn.monotonic_millis >= next_pass_millis_) {
    while (parts_.doorbell->TakeRing()) Pass(turn);
  }
  int64_t next = preemption_millis_;
  if (parts_.doorbell->IsRung()) next = std::min(next, next_pass_millis_);
  if (retry_unix_millis_ != kNever) {
    next = std::min(next, turn.monotonic_millis + (retry_unix_millis_ - turn.unix_millis));
  }
  return next;
}

void Placement::Pass(Turn& turn) {
  preemption_millis_ = kNever;
  std::erase_if(owed_, [&](uint64_t job) { return !parts_.jobs->queued().contains(job); });
  const ScheduleSnapshot& snapshot =
      parts_.view->Take({turn.unix_millis, turn.monotonic_millis}, owed_);
  retry_unix_millis_ = parts_.view->next_retry_unix_millis();
  next_pass_millis_ =
      turn.monotonic_millis + static_cast<int64_t>(snapshot.queue.size()) / kPacedJobsPerMilli;
  if (snapshot.queue.empty()) return;

  const auto start = std::chrono::steady_clock::now();
  const Schedule schedule = PlanSchedule(snapshot, options_.policy);
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
    if (parts_.view->IsNews(waiting)) SayWhyItWaits(turn, waiting);
  }
  for (const PreemptedJob& preempted : schedule.preempted) Preempt(turn, preempted);
}

void Placement::SayWhyItWaits(Turn& turn, const WaitingJob& waiting) {
  v1::JobRecord& record = *parts_.jobs->Find(waiting.job_id);
  v1::Job& job = *record.mutable_job();
  const v1::Cause cause = CauseOf(waiting);
  if (job.cause() == cause && job.reason() == waiting.reason) return;
  job.set_cause(cause);
  job.set_reason(waiting.reason);
  parts_.jobs->Touch(turn, record);
}

void Placement::Preempt(Turn& turn, const PreemptedJob& preempted) {
  const v1::Job& taker = parts_.jobs->Find(preempted.for_job_id)->job();
  v1::JobRecord& record = *parts_.jobs->Find(preempted.job_id);
  const v1::JobSpec& spec = record.job().spec();
  const std::string why =
      taker.spec().priority() > spec.priority()
          ? fmt::format("priority {} above {}", taker.spec().priority(), spec.priority())
          : fmt::format("within the quota of queue '{}', while queue '{}' borrows",
                        taker.spec().queue(), spec.queue());
  owed_.insert(*ParseJobId(taker.job_id()));
  parts_.ends->StopForLater(
      turn, record,
      fmt::format("pre-empted for {} ('{}', {})", taker.job_id(), taker.spec().name(), why));
}

void Placement::Place(Turn& turn, v1::JobRecord& record, const std::vector<SlotGrant>& grants) {
  v1::Job& job = *record.mutable_job();
  auto inputs = ResolveInputs(job, *parts_.jobs, *parts_.catalog);
  absl::Status usable = inputs.ok() ? CheckInputs(*inputs) : inputs.status();
  if (usable.ok()) usable = parts_.sampler->Settle(record, *inputs);
  if (usable.ok()) usable = Continue(turn, record, *inputs);
  if (!usable.ok()) {
    parts_.jobs->Move(turn, record, JobChange::kFailed, v1::CAUSE_BAD_INPUT, Message(usable));
    parts_.doorbell->Ring();  // the slots are free for the next
    return;
  }

  job.set_attempt(job.attempt() + 1);
  job.clear_placements();
  std::vector<std::string> places;
  for (const SlotGrant& grant : grants) {
    v1::Placement& placement = *job.add_placements();
    placement.set_worker_id(grant.worker_id);
    placement.mutable_slots()->Add(grant.slots.begin(), grant.slots.end());
    places.push_back(fmt::format("{} (slot {})", grant.worker_id, fmt::join(grant.slots, ", ")));
  }
  Attempt& attempt = parts_.attempts->Add({*ParseJobId(job.job_id()), job.attempt()},
                                          job.placements(), turn.monotonic_millis);
  const RunSpecFacts facts = FactsOf(record, attempt, *std::move(inputs));
  for (const auto& [field, input] : facts.inputs) {
    if (input.artefact.has_value()) {
      attempt.record.add_input_artefacts(ArtefactReference(*input.artefact));
    }
  }
  attempt.record.set_output_dir(facts.output_dir);
  attempt.record.set_run_spec_json(BuildRunSpec(job, facts));
  parts_.attempts->Save(turn, attempt);
  parts_.ledger->Open(turn, attempt.id(), static_cast<int32_t>(attempt.ranks.size()),
                      facts.resume.has_value());

  const int64_t queued_since =
      std::max(ToUnixMillis(job.create_time()), record.retry_unix_millis());
  parts_.observer->OnPlaced(job, static_cast<double>(turn.unix_millis - queued_since) / 1000.0);
  parts_.jobs->Move(
      turn, record, JobChange::kPlaced, v1::CAUSE_UNSPECIFIED,
      fmt::format(
          "attempt {} on {}{}", attempt.number, fmt::join(places, ", "),
          facts.resume.has_value() ? fmt::format(", from step {}", facts.resume->step()) : ""));
  for (const std::string& worker : WorkersOf(attempt)) {
    parts_.messages->Start(turn, attempt, worker);
  }
}

absl::Status Placement::Continue(Turn& turn, v1::JobRecord& record,
                                 const std::map<std::string, ResolvedInput>& inputs) {
  const v1::TrainSpec* spec = TrainSettings(record.job().spec());
  if (spec == nullptr || spec->start() != "continue" || !record.resume_artefact().empty()) {
    return absl::OkStatus();
  }
  const v1::Artefact& checkpoint = *inputs.at("model").artefact;
  if (checkpoint.kind() != v1::ARTEFACT_KIND_CHECKPOINT || checkpoint.step() >= spec->steps()) {
    return FailedPrecondition("start='continue': {} is no checkpoint before step {}",
                              ArtefactReference(checkpoint), spec->steps());
  }
  MOE_RETURN_IF_ERROR(parts_.sampler->TakeOver(turn, record, checkpoint));
  record.set_resume_artefact(ArtefactReference(checkpoint));
  return absl::OkStatus();
}

RunSpecFacts Placement::FactsOf(const v1::JobRecord& record, const Attempt& attempt,
                                std::map<std::string, ResolvedInput> inputs) const {
  RunSpecFacts facts;
  facts.world_size = static_cast<int32_t>(attempt.ranks.size());
  facts.lease_ttl_ms = parts_.workers->options().lease_ttl_ms;
  facts.output_dir =
      JoinPath(JoinPath(options_.artefact_root, KindName(OutputKind(record.job().spec()))),
               FormatAttempt(attempt.job, attempt.number));
  facts.work_dir = WorkDir(options_.artefact_root, record.job());
  facts.inputs = std::move(inputs);
  const v1::Artefact* resume =
      record.resume_artefact().empty() ? nullptr : parts_.catalog->Find(record.resume_artefact());
  if (resume != nullptr) facts.resume = *resume;
  const auto& losses = record.sampler().reference_losses();
  facts.reference_losses = {losses.begin(), losses.end()};
  facts.decisions = parts_.sampler->JournalOf(attempt.job);
  return facts;
}

}  // namespace moe::coordinator
