#include "storage/rocks/store.h"

#include <rocksdb/db.h>
#include <rocksdb/options.h>
#include <rocksdb/write_batch.h>

#include <array>
#include <limits>
#include <random>

#include "common/check.h"
#include "common/file.h"
#include "common/status.h"

namespace moe::storage {
namespace {

// In the order of enum Family. Stored: append only.
constexpr std::array<const char*, kNumFamilies> kFamilyNames = {
    "meta", "jobs",     "events", "request_ids", "artefacts", "steps",
    "logs", "attempts", "ranks",  "rendezvous",  "tokens",    "sampler"};

absl::Status FromRocks(const rocksdb::Status& status, const std::string& what) {
  if (status.ok()) return absl::OkStatus();
  if (status.IsCorruption()) {
    return DataLoss("{}: {}; restore the store from a backup", what, status.ToString());
  }
  if (status.IsNoSpace()) {
    return ResourceExhausted("{}: {}; free space on the disk of the data directory", what,
                             status.ToString());
  }
  return Internal("{}: {}", what, status.ToString());
}

std::string RandomId() {
  std::random_device device;
  return fmt::format("{:08x}{:08x}{:08x}{:08x}", device(), device(), device(), device());
}

// The smallest key that is greater than every key that starts with `prefix`; empty for none.
std::string PrefixEnd(std::string prefix) {
  while (!prefix.empty() && static_cast<uint8_t>(prefix.back()) == 0xff) prefix.pop_back();
  if (!prefix.empty()) prefix.back() = static_cast<char>(static_cast<uint8_t>(prefix.back()) + 1);
  return prefix;
}

}  // namespace

class Store::Impl {
 public:
  ~Impl() {
    if (db == nullptr) return;
    for (rocksdb::ColumnFamilyHandle* handle : handles) {
      if (handle != nullptr) (void)db->DestroyColumnFamilyHandle(handle);
    }
    (void)db->Close();
  }

  rocksdb::ColumnFamilyHandle* handle(Family family) const {
    return handles[static_cast<size_t>(family)];
  }

  absl::StatusOr<std::optional<std::string>> Get(Family family, const std::string& key) const {
    std::string value;
    const rocksdb::Status status = db->Get(rocksdb::ReadOptions(), handle(family), key, &value);
    if (status.IsNotFound()) return std::optional<std::string>();
    MOE_RETURN_IF_ERROR(FromRocks(status, "cannot read from the store " + path));
    return std::optional<std::string>(std::move(value));
  }

  absl::StatusOr<uint64_t> GetNumber(const std::string& key, uint64_t fallback) const {
    MOE_ASSIGN_OR_RETURN(const auto value, Get(Family::kMeta, key));
    if (!value.has_value()) return fallback;
    if (value->size() != 8) {
      return DataLoss("the store {} holds {} bytes under meta/{}, not 8", path, value->size(), key);
    }
    return ReadU64(*value, 0);
  }

  // Visits keys from `from` on that start with `prefix`, until `visit` returns false.
  absl::Status Scan(Family family, const std::string& prefix, const std::string& from,
                    const std::function<absl::StatusOr<bool>(const std::string&,
                                                             const rocksdb::Slice&)>& visit) const {
    rocksdb::ReadOptions options;
    const std::string end = PrefixEnd(prefix);
    const rocksdb::Slice upper_bound(end);
    if (!end.empty()) options.iterate_upper_bound = &upper_bound;
    std::unique_ptr<rocksdb::Iterator> it(db->NewIterator(options, handle(family)));
    for (it->Seek(from); it->Valid(); it->Next()) {
      MOE_ASSIGN_OR_RETURN(const bool go_on, visit(it->key().ToString(), it->value()));
      if (!go_on) return absl::OkStatus();
    }
    return FromRocks(it->status(), "cannot read from the store " + path);
  }

  template <typename Message>
  absl::StatusOr<Message> Parse(Family family, const rocksdb::Slice& value) const {
    Message message;
    if (!message.ParseFromArray(value.data(), static_cast<int>(value.size()))) {
      return DataLoss("the store {} holds a damaged {} record; restore it from a backup", path,
                      kFamilyNames[static_cast<size_t>(family)]);
    }
    return message;
  }

  std::string path;
  std::string store_id;
  std::unique_ptr<rocksdb::DB> db;
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
};

Store::Store(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Store::~Store() = default;

const std::string& Store::store_id() const { return impl_->store_id; }

absl::StatusOr<std::unique_ptr<Store>> Store::Open(const Options& options) {
  MOE_RETURN_IF_ERROR(MakeDirectories(options.path));

  rocksdb::DBOptions db_options;
  db_options.create_if_missing = true;
  db_options.create_missing_column_families = true;
  // A torn last record is a write that was never acknowledged; damage before it is an error.
  db_options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  db_options.max_total_wal_size = 64 << 20;
  db_options.keep_log_file_num = 4;
  db_options.max_log_file_size = 4 << 20;
  db_options.max_background_jobs = 2;
  rocksdb::ColumnFamilyOptions family_options;
  family_options.write_buffer_size = 8 << 20;

  std::vector<rocksdb::ColumnFamilyDescriptor> families = {
      {rocksdb::kDefaultColumnFamilyName, family_options}};
  for (const char* name : kFamilyNames) families.emplace_back(name, family_options);

  auto impl = std::make_unique<Impl>();
  impl->path = options.path;
  rocksdb::DB* db = nullptr;
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  const rocksdb::Status opened =
      rocksdb::DB::Open(db_options, options.path, families, &handles, &db);
  if (!opened.ok()) {
    const std::string text = opened.ToString();
    if (opened.IsInvalidArgument() &&
        text.find("Column families not opened") != std::string::npos) {
      return FailedPrecondition(
          "the store {} was written by a newer moe-coordinator ({}); run that version, or choose "
          "another data directory",
          options.path, text);
    }
    if (opened.IsIOError() && text.find("lock") != std::string::npos) {
      return FailedPrecondition(
          "the store {} is in use by another process ({}); stop the moe-coordinator that has it, "
          "or choose another data directory",
          options.path, text);
    }
    return FromRocks(opened, "cannot open the store " + options.path);
  }
  impl->db.reset(db);
  (void)db->DestroyColumnFamilyHandle(handles.front());  // "default" is not used
  impl->handles.assign(handles.begin() + 1, handles.end());

  MOE_ASSIGN_OR_RETURN(const uint64_t version, impl->GetNumber("schema_version", 0));
  if (version > kSchemaVersion) {
    return FailedPrecondition(
        "the store {} has schema version {}, this moe-coordinator knows up to {}; run the version "
        "that wrote it, or choose another data directory",
        options.path, version, kSchemaVersion);
  }
  // Version 1 has no tokens; opening has made the column family, and that is all of the migration.
  if (version < kSchemaVersion) {
    std::string number;
    AppendU64(kSchemaVersion, &number);
    rocksdb::WriteBatch batch;
    (void)batch.Put(impl->handle(Family::kMeta), "schema_version", number);
    if (version == 0) (void)batch.Put(impl->handle(Family::kMeta), "store_id", RandomId());
    rocksdb::WriteOptions write;
    write.sync = true;
    MOE_RETURN_IF_ERROR(
        FromRocks(db->Write(write, &batch), "cannot set up the store " + options.path));
  }
  MOE_ASSIGN_OR_RETURN(const auto store_id, impl->Get(Family::kMeta, "store_id"));
  impl->store_id = store_id.value_or("");
  return std::unique_ptr<Store>(new Store(std::move(impl)));
}

absl::Status Store::Commit(const Batch& batch) {
  rocksdb::WriteBatch writes;
  for (const Batch::Write& write : batch.writes()) {
    rocksdb::ColumnFamilyHandle* family = impl_->handle(write.family);
    rocksdb::Status status;
    if (write.delete_prefix) {
      status = writes.DeleteRange(family, write.key, PrefixEnd(write.key));
    } else if (write.value.has_value()) {
      status = writes.Put(family, write.key, *write.value);
    } else {
      status = writes.Delete(family, write.key);
    }
    MOE_RETURN_IF_ERROR(FromRocks(status, "cannot collect a batch"));
  }
  rocksdb::WriteOptions options;
  options.sync = true;
  return FromRocks(impl_->db->Write(options, &writes), "cannot write to the store " + impl_->path);
}

absl::StatusOr<Store::Counters> Store::ReadCounters() const {
  Counters counters;
  MOE_ASSIGN_OR_RETURN(const uint64_t revision, impl_->GetNumber("revision", 0));
  counters.revision = static_cast<int64_t>(revision);
  MOE_ASSIGN_OR_RETURN(counters.next_job, impl_->GetNumber("next_job", 1));
  MOE_ASSIGN_OR_RETURN(counters.next_pipeline, impl_->GetNumber("next_pipeline", 1));
  const std::string prefix = VersionCounterKey("");
  MOE_RETURN_IF_ERROR(
      impl_->Scan(Family::kMeta, prefix, prefix,
                  [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
                    counters.last_artefact_version[key.substr(prefix.size())] =
                        static_cast<int32_t>(ReadU64(value.ToString(), 0));
                    return true;
                  }));
  return counters;
}

absl::Status Store::ForEachJob(const std::function<void(uint64_t, v1::JobRecord)>& visit) const {
  return impl_->Scan(
      Family::kJobs, "", "",
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        MOE_ASSIGN_OR_RETURN(v1::JobRecord record,
                             impl_->Parse<v1::JobRecord>(Family::kJobs, value));
        visit(ReadU64(key, 0), std::move(record));
        return true;
      });
}

absl::Status Store::ForEachArtefact(const std::function<void(v1::ArtefactRecord)>& visit) const {
  return impl_->Scan(
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
  return impl_->Scan(
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
  return impl_->Scan(
      Family::kTokens, "", "",
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        MOE_ASSIGN_OR_RETURN(v1::Token token, impl_->Parse<v1::Token>(Family::kTokens, value));
        visit(key, std::move(token));
        return true;
      });
}

absl::Status Store::ForEachRank(const std::function<void(RankKey, v1::RankRecord)>& visit) const {
  return impl_->Scan(
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
  return impl_->Scan(
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
  MOE_ASSIGN_OR_RETURN(const auto value, impl_->Get(Family::kRequestIds, request_id));
  if (!value.has_value()) return std::optional<v1::RequestRecord>();
  MOE_ASSIGN_OR_RETURN(v1::RequestRecord record,
                       impl_->Parse<v1::RequestRecord>(Family::kRequestIds, *value));
  return std::optional<v1::RequestRecord>(std::move(record));
}

absl::StatusOr<std::optional<v1::StepReport>> Store::FindStep(uint64_t job, int64_t step) const {
  MOE_ASSIGN_OR_RETURN(const auto value, impl_->Get(Family::kSteps, StepKey(job, step)));
  if (!value.has_value()) return std::optional<v1::StepReport>();
  MOE_ASSIGN_OR_RETURN(v1::StepReport report, impl_->Parse<v1::StepReport>(Family::kSteps, *value));
  return std::optional<v1::StepReport>(std::move(report));
}

absl::StatusOr<std::vector<v1::JobEvent>> Store::ListEvents(uint64_t job,
                                                            int64_t after_revision) const {
  std::vector<v1::JobEvent> events;
  MOE_RETURN_IF_ERROR(
      impl_->Scan(Family::kEvents, JobKey(job), EventKey(job, after_revision + 1),
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
  MOE_RETURN_IF_ERROR(
      impl_->Scan(Family::kSteps, JobKey(job), StepKey(job, after_step + 1),
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
  MOE_RETURN_IF_ERROR(
      impl_->Scan(Family::kRendezvous, prefix, prefix,
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
      impl_->db->NewIterator(rocksdb::ReadOptions(), impl_->handle(Family::kLogs)));
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
  MOE_RETURN_IF_ERROR(FromRocks(it->status(), "cannot read a log from the store " + impl_->path));
  return piece;
}

}  // namespace moe::storage
