#include "storage/rocks/store.h"

#include <rocksdb/write_batch.h>

#include <random>

#include "common/status.h"
#include "storage/rocks/database.h"

namespace moe::storage {
namespace {

std::string RandomId() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", device(), device(), device(), device());
}

}  // namespace

class Store::Impl {
 public:
  explicit Impl(std::unique_ptr<Database> database) : db(std::move(database)) {}

  template <typename Message>
  absl::StatusOr<Message> Parse(Family family, const rocksdb::Slice& value) const {
    Message message;
    if (!message.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
      return DataLoss("the store {} holds a damaged {} record; restore it from a backup",
                      db->path(), FamilyName(family));
    }
    return message;
  }

  // The write at `index` deletes all keys that start with its own, in the store and in the batch
  // before it. Key by key: where a disk fails during a compaction that has nothing but deleted
  // ranges left, RocksDB 7.8 fails an assertion, and with it the process, instead of reporting it.
  absl::Status DeletePrefix(const Batch& batch, size_t index, rocksdb::WriteBatch* writes) const {
    const Batch::Write& wanted = batch.writes()[index];
    rocksdb::ColumnFamilyHandle* family = db->handle(wanted.family);
    for (size_t i = 0; i < index; ++i) {
      const Batch::Write& write = batch.writes()[i];
      if (write.family != wanted.family || !write.key.starts_with(wanted.key)) continue;
      MOE_RETURN_IF_ERROR(FromRocks(writes->Delete(family, write.key), "cannot collect a batch"));
    }
    return db->Scan(
        wanted.family, wanted.key, wanted.key,
        [&](const std::string& key, const rocksdb::Slice&) -> absl::StatusOr<bool> {
          MOE_RETURN_IF_ERROR(FromRocks(writes->Delete(family, key), "cannot collect a batch"));
          return true;
        });
  }

  const std::unique_ptr<Database> db;
  std::string store_id;
};

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() = default;

const std::string& Store::store_id() const { return impl_->store_id; }

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const Options& options) {
  MOE_ASSIGN_OR_RETURN(std::unique_ptr<Database> database,
                       Database::Open(options.path, options.env));
  auto impl = std::make_unique<Impl>(std::move(database));
  const Database& db = *impl->db;
  MOE_ASSIGN_OR_RETURN(const uint64_t version, db.GetNumber("schema_version", 0));
  if (version > kSchemaVersion) {
    return FailedPrecondition(
        "the store {} has schema version {}, this moe-coordinator knows up to {}; run the version "
        "that wrote it, or choose another data directory",
        options.path, version, kSchemaVersion);
  }
  // Version 1 has no tokens, version 2 no audit journal; opening has made the column families, and
  // that is all of the migration.
  if (version < kSchemaVersion) {
    std::string number;
    AppendU64(kSchemaVersion, &number);
    rocksdb::WriteBatch batch;
    (void)batch.Put(db.handle(Family::kMeta), "schema_version", number);
    if (version == 0) (void)batch.Put(db.handle(Family::kMeta), "store_id", RandomId());
    rocksdb::WriteOptions write;
    write.sync = true;
    MOE_RETURN_IF_ERROR(
        FromRocks(db.rocks()->Write(write, &batch), "cannot set up the store " + options.path));
  }
  MOE_ASSIGN_OR_RETURN(const auto store_id, db.Get(Family::kMeta, "store_id"));
  impl->store_id = store_id.value_or("");
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

absl::Status Store::Commit(const Batch& batch) {
  rocksdb::WriteBatch writes;
  for (size_t i = 0; i < batch.writes().size(); ++i) {
    const Batch::Write& write = batch.writes()[i];
    rocksdb::ColumnFamilyHandle* family = impl_->db->handle(write.family);
    rocksdb::Status status;
    if (write.delete_prefix) {
      MOE_RETURN_IF_ERROR(impl_->DeletePrefix(batch, i, &writes));
    } else if (write.value.has_value()) {
      status = writes.Put(family, write.key, *write.value);
    } else {
      status = writes.Delete(family, write.key);
    }
    MOE_RETURN_IF_ERROR(FromRocks(status, "cannot collect a batch"));
  }
  rocksdb::WriteOptions options;
  options.sync = true;
  return FromRocks(impl_->db->rocks()->Write(options, &writes),
                   "cannot write to the store " + impl_->db->path());
}

absl::StatusOr<Backup> Store::BackUp(const std::string& folder, int keep) const {
  return AddBackup(*impl_->db, folder, keep);
}

absl::StatusOr<bool> Store::is_restored() const {
  MOE_ASSIGN_OR_RETURN(const uint64_t when, impl_->db->GetNumber(kRestoredKey, 0));
  return when != 0;
}

absl::StatusOr<std::vector<v1::AuditEntry>> Store::ListAudit(int64_t after_seq, int limit) const {
  std::vector<v1::AuditEntry> entries;
  MOE_RETURN_IF_ERROR(impl_->db->Scan(
      Family::kAudit, "", AuditKey(after_seq + 1),
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        if (static_cast<int>(entries.size()) >= limit) return false;
        MOE_ASSIGN_OR_RETURN(v1::AuditEntry entry,
                             impl_->Parse<v1::AuditEntry>(Family::kAudit, value));
        entries.push_back(std::move(entry));
        return true;
      }));
  return entries;
}

absl::StatusOr<std::optional<v1::AuditEntry>> Store::LastAudit() const {
  std::unique_ptr<rocksdb::Iterator> it(
      impl_->db->rocks()->NewIterator(rocksdb::ReadOptions(), impl_->db->handle(Family::kAudit)));
  it->SeekToLast();
  MOE_RETURN_IF_ERROR(FromRocks(it->status(), "cannot read from the store " + impl_->db->path()));
  if (!it->Valid()) return std::optional<v1::AuditEntry>();
  MOE_ASSIGN_OR_RETURN(v1::AuditEntry entry,
                       impl_->Parse<v1::AuditEntry>(Family::kAudit, it->value()));
  return std::optional<v1::AuditEntry>(std::move(entry));
}

absl::StatusOr<Store::Counters> Store::ReadCounters() const {
  Counters counters;
  MOE_ASSIGN_OR_RETURN(const uint64_t revision, impl_->db->GetNumber("revision", 0));
  counters.revision = static_cast<int64_t>(revision);
  MOE_ASSIGN_OR_RETURN(counters.next_job, impl_->db->GetNumber("next_job", 1));
  MOE_ASSIGN_OR_RETURN(counters.next_pipeline, impl_->db->GetNumber("next_pipeline", 1));
  const std::string prefix = VersionCounterKey("");
  MOE_RETURN_IF_ERROR(impl_->db->Scan(
      Family::kMeta, prefix, prefix,
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        counters.last_artefact_version[key.substr(prefix.size())] =
            static_cast<int32_t>(ReadU64(value.ToString(), 0));
        return true;
      }));
  return counters;
}

absl::Status Store::ForEachJob(const std::function<void(uint64_t, v1::JobRecord)>& visit) const {
  return impl_->db->Scan(
      Family::kJobs, "", "",
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        MOE_ASSIGN_OR_RETURN(v1::JobRecord record,
                             impl_->Parse<v1::JobRecord>(Family::kJobs, value));
        visit(ReadU64(key, 0), std::move(record));
        return true;
      });
}

absl::Status Store::ForEachArtefact(const std::function<void(v1::ArtefactRecord)>& visit) const {
  return impl_->db->Scan(
      Family::kArtefacts, "", "",
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        MOE_ASSIGN_OR_RETURN(v1::ArtefactRecord record,
                             impl_->Parse<v1::ArtefactRecord>(Family::kArtefacts, value));
        visit(std::move(record));
        return true;
      });
}

absl::Status Store::ForEachAttempt(
    const std::function<void(uint64_t, int32_t, v1::AttemptRecord)>& visit) const {
  return impl_->db->Scan(
      Family::kAttempts, "", "",
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        MOE_ASSIGN_OR_RETURN(v1::AttemptRecord record,
                             impl_->Parse<v1::AttemptRecord>(Family::kAttempts, value));
        visit(ReadU64(key, 0), static_cast<int32_t>(ReadU32(key, 8)), std::move(record));
        return true;
      });
}

absl::Status Store::ForEachToken(
    const std::function<void(const std::string&, v1::Token)>& visit) const {
  return impl_->db->Scan(
      Family::kTokens, "", "",
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        MOE_ASSIGN_OR_RETURN(v1::Token token, impl_->Parse<v1::Token>(Family::kTokens, value));
        visit(key, std::move(token));
        return true;
      });
}

absl::Status Store::ForEachWorker(
    const std::function<void(const std::string&, v1::WorkerRecord)>& visit) const {
  return impl_->db->Scan(
      Family::kWorkers, "", "",
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        MOE_ASSIGN_OR_RETURN(v1::WorkerRecord record,
                             impl_->Parse<v1::WorkerRecord>(Family::kWorkers, value));
        visit(key, std::move(record));
        return true;
      });
}

absl::Status Store::ForEachLedger(
    const std::function<void(uint64_t, int32_t, v1::AttemptLedger)>& visit) const {
  return impl_->db->Scan(
      Family::kLedgers, "", "",
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        MOE_ASSIGN_OR_RETURN(v1::AttemptLedger ledger,
                             impl_->Parse<v1::AttemptLedger>(Family::kLedgers, value));
        visit(ReadU64(key, 0), static_cast<int32_t>(ReadU32(key, 8)), std::move(ledger));
        return true;
      });
}

absl::StatusOr<std::vector<std::pair<int32_t, v1::AttemptLedger>>> Store::ListLedgers(
    uint64_t job) const {
  std::vector<std::pair<int32_t, v1::AttemptLedger>> ledgers;
  MOE_RETURN_IF_ERROR(impl_->db->Scan(
      Family::kLedgers, JobKey(job), JobKey(job),
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        MOE_ASSIGN_OR_RETURN(v1::AttemptLedger ledger,
                             impl_->Parse<v1::AttemptLedger>(Family::kLedgers, value));
        ledgers.emplace_back(static_cast<int32_t>(ReadU32(key, 8)), std::move(ledger));
        return true;
      }));
  return ledgers;
}

absl::Status Store::ForEachRank(const std::function<void(RankKey, v1::RankRecord)>& visit) const {
  return impl_->db->Scan(
      Family::kRanks, "", "",
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        MOE_ASSIGN_OR_RETURN(v1::RankRecord record,
                             impl_->Parse<v1::RankRecord>(Family::kRanks, value));
        visit({ReadU64(key, 0), static_cast<int32_t>(ReadU32(key, 8)),
               static_cast<int32_t>(ReadU32(key, 12))},
              std::move(record));
        return true;
      });
}

absl::Status Store::ForEachDecision(
    const std::function<void(uint64_t, v1::SamplerDecision)>& visit) const {
  return impl_->db->Scan(
      Family::kSampler, "", "",
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        MOE_ASSIGN_OR_RETURN(v1::SamplerDecision decision,
                             impl_->Parse<v1::SamplerDecision>(Family::kSampler, value));
        visit(ReadU64(key, 0), std::move(decision));
        return true;
      });
}

absl::StatusOr<std::optional<v1::RequestRecord>> Store::FindRequest(
    const std::string& request_id) const {
  MOE_ASSIGN_OR_RETURN(const auto value, impl_->db->Get(Family::kRequestIds, request_id));
  if (!value.has_value()) return std::optional<v1::RequestRecord>();
  MOE_ASSIGN_OR_RETURN(v1::RequestRecord record,
                       impl_->Parse<v1::RequestRecord>(Family::kRequestIds, *value));
  return std::optional<v1::RequestRecord>(std::move(record));
}

absl::StatusOr<std::optional<v1::StepReport>> Store::FindStep(uint64_t job, int64_t step) const {
  MOE_ASSIGN_OR_RETURN(const auto value, impl_->db->Get(Family::kSteps, StepKey(job, step)));
  if (!value.has_value()) return std::optional<v1::StepReport>();
  MOE_ASSIGN_OR_RETURN(v1::StepReport report, impl_->Parse<v1::StepReport>(Family::kSteps, *value));
  return std::optional<v1::StepReport>(std::move(report));
}

absl::StatusOr<std::vector<v1::JobEvent>> Store::ListEvents(uint64_t job,
                                                            int64_t after_revision) const {
  std::vector<v1::JobEvent> events;
  MOE_RETURN_IF_ERROR(impl_->db->Scan(
      Family::kEvents, JobKey(job), EventKey(job, after_revision + 1),
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        MOE_ASSIGN_OR_RETURN(v1::JobEvent event,
                             impl_->Parse<v1::JobEvent>(Family::kEvents, value));
        events.push_back(std::move(event));
        return true;
      }));
  return events;
}

absl::StatusOr<std::vector<v1::StepReport>> Store::ListSteps(uint64_t job, int64_t after_step,
                                                             int limit) const {
  std::vector<v1::StepReport> steps;
  MOE_RETURN_IF_ERROR(impl_->db->Scan(
      Family::kSteps, JobKey(job), StepKey(job, after_step + 1),
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        if (static_cast<int>(steps.size()) >= limit) return false;
        MOE_ASSIGN_OR_RETURN(v1::StepReport step,
                             impl_->Parse<v1::StepReport>(Family::kSteps, value));
        steps.push_back(std::move(step));
        return true;
      }));
  return steps;
}

absl::StatusOr<std::vector<std::pair<std::string, std::string>>> Store::ListRendezvous(
    uint64_t job, int32_t attempt) const {
  const std::string prefix = AttemptKey(job, attempt);
  std::vector<std::pair<std::string, std::string>> values;
  MOE_RETURN_IF_ERROR(impl_->db->Scan(
      Family::kRendezvous, prefix, prefix,
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        values.emplace_back(key.substr(prefix.size()), value.ToString());
        return true;
      }));
  return values;
}

absl::StatusOr<Store::LogPiece> Store::ReadLog(const RankKey& rank, int64_t offset,
                                               int64_t max_bytes) const {
  const std::string prefix = RankRecordKey(rank);
  std::unique_ptr<rocksdb::Iterator> it(
      impl_->db->rocks()->NewIterator(rocksdb::ReadOptions(), impl_->db->handle(Family::kLogs)));
  it->SeekForPrev(LogKey(rank, offset));  // the chunk that holds `offset` starts at or before it
  LogPiece piece{.offset = offset, .bytes = ""};
  if (it->Valid() && it->key().starts_with(prefix)) {
    const int64_t chunk_offset = static_cast<int64_t>(ReadU64(it->key().ToString(), prefix.size()));
    const rocksdb::Slice chunk = it->value();
    const int64_t skip = offset - chunk_offset;
    if (skip < static_cast<int64_t>(chunk.size())) {
      const int64_t size = std::min(max_bytes, static_cast<int64_t>(chunk.size()) - skip);
      piece.bytes.assign(chunk.data() + skip, static_cast<size_t>(size));
    }
  }
  MOE_RETURN_IF_ERROR(
      FromRocks(it->status(), "cannot read a log from the store " + impl_->db->path()));
  return piece;
}

}  // namespace moe::storage
