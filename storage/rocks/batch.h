// Changes that become durable together or not at all.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "moe/v1/access_service.pb.h"
#include "moe/v1/audit.pb.h"
#include "moe/v1/job.pb.h"
#include "moe/v1/record.pb.h"
#include "moe/v1/sampler.pb.h"
#include "storage/rocks/keys.h"

namespace moe::storage {

// Column families of the store. The names in database.cc are stored; these numbers are not.
enum class Family {
  kMeta,
  kJobs,
  kEvents,
  kRequestIds,
  kArtefacts,
  kSteps,
  kLogs,
  kAttempts,
  kRanks,
  kRendezvous,
  kTokens,
  kSampler,
  kWorkers,
  kLedgers,
  kAudit,
};
inline constexpr int kNumFamilies = 15;

// A list of writes, in order; plain data until Store::Commit. Later writes of a key win.
class Batch {
 public:
  struct Write {
    Family family;
    std::string key;
    std::optional<std::string> value;  // absent: delete the key
    bool delete_prefix = false;        // delete every key that starts with `key`
  };

  Batch() = default;
  explicit Batch(std::vector<Write> writes) : writes_(std::move(writes)) {}

  void PutRevision(int64_t revision);
  void PutNextJob(uint64_t number);
  void PutNextPipeline(uint64_t number);
  void PutVersionCounter(const std::string& artefact_name, int32_t last_version);

  void PutJob(uint64_t job, const v1::JobRecord& record);
  void PutEvent(uint64_t job, const v1::JobEvent& event);
  void PutRequest(const std::string& request_id, const v1::RequestRecord& record);
  void PutArtefact(const v1::ArtefactRecord& record);
  void DeleteArtefact(const std::string& name, int32_t version);
  void PutStep(uint64_t job, const v1::StepReport& step);
  void PutDecision(uint64_t job, const v1::SamplerDecision& decision);
  void PutLog(const RankKey& rank, int64_t offset, const std::string& bytes);
  void PutAttempt(uint64_t job, int32_t attempt, const v1::AttemptRecord& record);
  void PutRank(const RankKey& rank, const v1::RankRecord& record);
  void PutRendezvous(uint64_t job, int32_t attempt, const std::string& key,
                     const std::string& value);
  // Under the SHA-256 of its text.
  void PutToken(const std::string& token_sha256, const v1::Token& token);
  // What an operator said of a worker.
  void PutWorker(const std::string& worker_id, const v1::WorkerRecord& record);
  void DeleteWorker(const std::string& worker_id);
  // Where the time of an attempt went; kept when the attempt is dropped.
  void PutLedger(uint64_t job, int32_t attempt, const v1::AttemptLedger& ledger);
  void TakeNoteOfRestore();
  void PutAudit(const v1::AuditEntry& entry);
  // Drops an attempt's record, its ranks' records and its rendezvous; its log stays.
  void DeleteAttempt(uint64_t job, int32_t attempt);

  bool empty() const { return writes_.empty(); }
  const std::vector<Write>& writes() const { return writes_; }

 private:
  void Put(Family family, std::string key, std::string value);
  // A counter: written once, however often a group of changes moves it on.
  void PutNumber(const std::string& key, uint64_t number);

  std::vector<Write> writes_;
  std::map<std::string, size_t> numbers_;  // counters by key: indices into writes_
};

}  // namespace moe::storage
