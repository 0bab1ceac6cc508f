// Every fact of the coordinator, durably, over RocksDB (docs/formats/store.md).
//
//   MOE_ASSIGN_OR_RETURN(auto store, Store::Open({.path = "/var/lib/moe/store"}));
//   Batch batch;
//   batch.PutJob(17, record);
//   batch.PutEvent(17, event);
//   MOE_RETURN_IF_ERROR(store->Commit(batch));   // durable now, both or neither
//
// Thread-safe. One process at a time: a second one is refused at Open.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/rocks/backup.h"
#include "storage/rocks/batch.h"

namespace rocksdb {
class Env;
}  // namespace rocksdb

namespace moe::storage {

// What this program writes. A store with a greater version is refused.
inline constexpr uint64_t kSchemaVersion = 3;

class Store {
 public:
  struct Options {
    std::string path;  // a folder of its own; made where it is missing
    // Where the files are; null: on the machine's disks. Outlives the store.
    rocksdb::Env* env = nullptr;
  };

  // Sequences that outlive restarts, so that no id is ever used twice.
  struct Counters {
    int64_t revision = 0;  // of the newest change
    uint64_t next_job = 1;
    uint64_t next_pipeline = 1;
    std::map<std::string, int32_t> last_artefact_version;  // by name
  };

  struct LogPiece {
    int64_t offset = 0;  // of the first byte
    std::string bytes;
  };

  // FAILED_PRECONDITION where another process has it open or the schema is newer than ours;
  // DATA_LOSS where it is damaged; PERMISSION_DENIED where the folder cannot be written.
  static absl::StatusOr<std::unique_ptr<Store>> Open(const Options& options);
  ~Store();

  // Writes all of `batch` with one sync. On an error nothing of it may be relied on, and the store
  // takes no more writes. Concurrent commits share syncs (RocksDB groups them).
  absl::Status Commit(const Batch& batch);

  // Adds a backup to `folder` and keeps the `keep` newest (backup.h), while the store goes on: it
  // holds what was committed before the call, and perhaps more. Takes its time.
  absl::StatusOr<Backup> BackUp(const std::string& folder, int keep) const;

  // Random and unique; ties an artefact root to its store.
  const std::string& store_id() const;

  // Whether the store was brought back from a backup and nobody has taken note since: there may be
  // artefacts that it does not know (Batch::TakeNoteOfRestore).
  absl::StatusOr<bool> is_restored() const;

  absl::StatusOr<Counters> ReadCounters() const;

  // Calls `visit` for each record in key order.
  absl::Status ForEachJob(const std::function<void(uint64_t, v1::JobRecord)>& visit) const;
  absl::Status ForEachArtefact(const std::function<void(v1::ArtefactRecord)>& visit) const;
  absl::Status ForEachAttempt(
      const std::function<void(uint64_t, int32_t, v1::AttemptRecord)>& visit) const;
  // `token_sha256` is the key that the token was put under.
  absl::Status ForEachToken(
      const std::function<void(const std::string& token_sha256, v1::Token)>& visit) const;
  absl::Status ForEachWorker(
      const std::function<void(const std::string& worker_id, v1::WorkerRecord)>& visit) const;
  // By job, then by attempt.
  absl::Status ForEachLedger(
      const std::function<void(uint64_t, int32_t, v1::AttemptLedger)>& visit) const;
  absl::Status ForEachRank(const std::function<void(RankKey, v1::RankRecord)>& visit) const;

  // By job, then by version.
  absl::Status ForEachDecision(
      const std::function<void(uint64_t, v1::SamplerDecision)>& visit) const;

  // At most `limit` entries of the audit journal above `after_seq`, in order.
  absl::StatusOr<std::vector<v1::AuditEntry>> ListAudit(int64_t after_seq, int limit) const;
  // The newest one; nothing for an empty journal.
  absl::StatusOr<std::optional<v1::AuditEntry>> LastAudit() const;

  absl::StatusOr<std::optional<v1::RequestRecord>> FindRequest(const std::string& request_id) const;
  absl::StatusOr<std::optional<v1::StepReport>> FindStep(uint64_t job, int64_t step) const;
  // The ledgers of a job's attempts, oldest first.
  absl::StatusOr<std::vector<std::pair<int32_t, v1::AttemptLedger>>> ListLedgers(
      uint64_t job) const;
  // Events of a job with a revision above `after_revision`, oldest first.
  absl::StatusOr<std::vector<v1::JobEvent>> ListEvents(uint64_t job, int64_t after_revision) const;
  // At most `limit` steps of a job above `after_step`, in order.
  absl::StatusOr<std::vector<v1::StepReport>> ListSteps(uint64_t job, int64_t after_step,
                                                        int limit) const;
  // Key and value of everything that the ranks of an attempt have put.
  absl::StatusOr<std::vector<std::pair<std::string, std::string>>> ListRendezvous(
      uint64_t job, int32_t attempt) const;
  // Bytes of a rank's log from `offset`, at most `max_bytes` and at most one stored chunk; empty at
  // the end.
  absl::StatusOr<LogPiece> ReadLog(const RankKey& rank, int64_t offset, int64_t max_bytes) const;

 private:
  class Impl;
  explicit Store(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moe::storage
