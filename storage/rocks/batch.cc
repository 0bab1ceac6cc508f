#include "storage/rocks/batch.h"

#include <utility>

namespace moe::storage {
namespace {

std::string U64(uint64_t value) {
  std::string bytes;
  AppendU64(value, &bytes);
  return bytes;
}

}  // namespace

void Batch::Put(Family family, std::string key, std::string value) {
  writes_.push_back({family, std::move(key), std::move(value), false});
}

void Batch::PutNumber(const std::string& key, uint64_t number) {
  const auto [it, is_new] = numbers_.try_emplace(key, writes_.size());
  if (is_new) {
    Put(Family::kMeta, key, U64(number));
  } else {
    writes_[it->second].value = U64(number);
  }
}

void Batch::PutRevision(int64_t revision) {
  PutNumber("revision", static_cast<uint64_t>(revision));
}
void Batch::PutNextJob(uint64_t number) { PutNumber("next_job", number); }
void Batch::PutNextPipeline(uint64_t number) { PutNumber("next_pipeline", number); }
void Batch::PutVersionCounter(const std::string& artefact_name, int32_t last_version) {
  PutNumber(VersionCounterKey(artefact_name), static_cast<uint64_t>(last_version));
}

void Batch::PutJob(uint64_t job, const v1::JobRecord& record) {
  Put(Family::kJobs, JobKey(job), record.SerializeAsString());
}
void Batch::PutEvent(uint64_t job, const v1::JobEvent& event) {
  Put(Family::kEvents, EventKey(job, event.revision()), event.SerializeAsString());
}
void Batch::PutRequest(const std::string& request_id, const v1::RequestRecord& record) {
  Put(Family::kRequestIds, request_id, record.SerializeAsString());
}
void Batch::PutArtefact(const v1::ArtefactRecord& record) {
  Put(Family::kArtefacts, ArtefactKey(record.artefact().name(), record.artefact().version()),
      record.SerializeAsString());
}
void Batch::DeleteArtefact(const std::string& name, int32_t version) {
  writes_.push_back({Family::kArtefacts, ArtefactKey(name, version), std::nullopt, false});
}
void Batch::PutStep(uint64_t job, const v1::StepReport& step) {
  Put(Family::kSteps, StepKey(job, step.step()), step.SerializeAsString());
}
void Batch::PutDecision(uint64_t job, const v1::SamplerDecision& decision) {
  Put(Family::kSampler, DecisionKey(job, decision.version()), decision.SerializeAsString());
}
void Batch::PutLog(const RankKey& rank, int64_t offset, const std::string& bytes) {
  Put(Family::kLogs, LogKey(rank, offset), bytes);
}
void Batch::PutAttempt(uint64_t job, int32_t attempt, const v1::AttemptRecord& record) {
  Put(Family::kAttempts, AttemptKey(job, attempt), record.SerializeAsString());
}
void Batch::PutRank(const RankKey& rank, const v1::RankRecord& record) {
  Put(Family::kRanks, RankRecordKey(rank), record.SerializeAsString());
}
void Batch::PutRendezvous(uint64_t job, int32_t attempt, const std::string& key,
                          const std::string& value) {
  Put(Family::kRendezvous, RendezvousKey(job, attempt, key), value);
}
void Batch::PutToken(const std::string& token_sha256, const v1::Token& token) {
  Put(Family::kTokens, token_sha256, token.SerializeAsString());
}
void Batch::PutWorker(const std::string& worker_id, const v1::WorkerRecord& record) {
  Put(Family::kWorkers, worker_id, record.SerializeAsString());
}
void Batch::DeleteWorker(const std::string& worker_id) {
  writes_.push_back({Family::kWorkers, worker_id, std::nullopt, false});
}
void Batch::PutLedger(uint64_t job, int32_t attempt, const v1::AttemptLedger& ledger) {
  Put(Family::kLedgers, AttemptKey(job, attempt), ledger.SerializeAsString());
}
void Batch::TakeNoteOfRestore() {
  writes_.push_back({Family::kMeta, kRestoredKey, std::nullopt, false});
}
void Batch::PutAudit(const v1::AuditEntry& entry) {
  Put(Family::kAudit, AuditKey(entry.seq()), entry.SerializeAsString());
}
void Batch::DeleteAttempt(uint64_t job, int32_t attempt) {
  const std::string prefix = AttemptKey(job, attempt);
  writes_.push_back({Family::kAttempts, prefix, std::nullopt, false});
  writes_.push_back({Family::kRanks, prefix, std::nullopt, true});
  writes_.push_back({Family::kRendezvous, prefix, std::nullopt, true});
}

}  // namespace moe::storage
