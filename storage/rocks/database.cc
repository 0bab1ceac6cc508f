#include "storage/rocks/database.h"

#include <rocksdb/env.h>
#include <rocksdb/filter_policy.h>
#include <rocksdb/options.h>
#include <rocksdb/table.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "common/file.h"
#include "common/status.h"
#include "storage/rocks/log_tail.h"
#include "storage/rocks/rocks_logger.h"

namespace moe::storage {
namespace {

// In the order of enum Family. Stored: append only.
constexpr std::array<const char*, kNumFamilies> kFamilyNames = {
    "meta",  "jobs",       "events", "request_ids", "artefacts", "steps",   "logs", "attempts",
    "ranks", "rendezvous", "tokens", "sampler",     "workers",   "ledgers", "audit"};

rocksdb::DBOptions DatabaseOptions() {
  rocksdb::DBOptions options;
  // A torn last record is a write that was never acknowledged; damage before it is an error.
  options.wal_recovery_mode = rocksdb::WALRecoveryMode::kTolerateCorruptedTailRecords;
  options.max_total_wal_size = 64 << 20;
  // RocksDB's own log file cannot be had: once the disk is full, its next line fails an assertion.
  options.info_log = MakeRocksLogger();
  // Who cannot write ends and says so. Nothing is tried again behind their back.
  options.max_bgerror_resume_count = 0;
  options.max_background_jobs = 2;
  return options;
}

std::vector<rocksdb::ColumnFamilyDescriptor> Descriptors(const std::vector<std::string>& names) {
  // Most lookups are of what is not there yet: a new request id, a new step.
  rocksdb::BlockBasedTableOptions table;
  table.filter_policy.reset(rocksdb::NewBloomFilterPolicy(10));
  rocksdb::ColumnFamilyOptions options;
  options.table_factory.reset(rocksdb::NewBlockBasedTableFactory(table));
  options.write_buffer_size = 8 << 20;
  std::vector<rocksdb::ColumnFamilyDescriptor> families;
  for (const std::string& name : names) families.emplace_back(name, options);
  return families;
}

bool IsKnown(const std::string& name) {
  return name == rocksdb::kDefaultColumnFamilyName ||
         std::find(kFamilyNames.begin(), kFamilyNames.end(), name) != kFamilyNames.end();
}

// Whether the write-ahead logs in the folder are whole, but for a last write that the power
// interrupted.
bool OnlyTheLastWriteIsTorn(rocksdb::Env* env, const std::string& path) {
  std::vector<std::string> names;
  if (!env->GetChildren(path, &names).ok()) return false;
  std::erase_if(names, [](const std::string& name) { return !name.ends_with(".log"); });
  std::sort(names.begin(), names.end());  // numbers with leading zeros
  std::string log;
  return !names.empty() &&
         rocksdb::ReadFileToString(env, JoinPath(path, names.back()), &log).ok() &&
         EndsInATornWrite(log);
}

absl::Status WrittenByANewerOne(const std::string& path, const std::string& detail) {
  return FailedPrecondition(
      "the store {} was written by a newer moe-coordinator ({}); run that version, or choose "
      "another data directory",
      path, detail);
}

absl::Status InUse(const std::string& path, const std::string& detail) {
  return FailedPrecondition(
      "the store {} is in use by another process ({}); stop the moe-coordinator that has it, or "
      "choose another data directory",
      path, detail);
}

}  // namespace

const char* FamilyName(Family family) { return kFamilyNames[static_cast<size_t>(family)]; }

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

std::string PrefixEnd(std::string prefix) {
  while (!prefix.empty() && static_cast<uint8_t>(prefix.back()) == 0xff) prefix.pop_back();
  if (!prefix.empty()) prefix.back() = static_cast<char>(static_cast<uint8_t>(prefix.back()) + 1);
  return prefix;
}

absl::StatusOr<std::unique_ptr<Database>> Database::Open(const std::string& path,
                                                         rocksdb::Env* env) {
  rocksdb::DBOptions options = DatabaseOptions();
  if (env != nullptr) {
    options.env = env;
  } else {
    MOE_RETURN_IF_ERROR(MakeDirectories(path));
  }
  options.create_if_missing = true;
  options.create_missing_column_families = true;
  std::vector<std::string> names = {rocksdb::kDefaultColumnFamilyName};
  names.insert(names.end(), kFamilyNames.begin(), kFamilyNames.end());
  rocksdb::DB* db = nullptr;
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  rocksdb::Status opened = rocksdb::DB::Open(options, path, Descriptors(names), &handles, &db);
  if (opened.IsCorruption() && OnlyTheLastWriteIsTorn(options.env, path)) {
    // RocksDB tolerates a last write that ends early, not one that has a hole.
    options.wal_recovery_mode = rocksdb::WALRecoveryMode::kPointInTimeRecovery;
    opened = rocksdb::DB::Open(options, path, Descriptors(names), &handles, &db);
  }
  if (!opened.ok()) {
    const std::string text = opened.ToString();
    if (opened.IsInvalidArgument() &&
        text.find("Column families not opened") != std::string::npos) {
      return WrittenByANewerOne(path, text);
    }
    if (opened.IsIOError() && text.find("lock") != std::string::npos) return InUse(path, text);
    return FromRocks(opened, "cannot open the store " + path);
  }
  std::unique_ptr<Database> database(new Database(path));
  database->Adopt(db, handles, names);
  return database;
}

absl::StatusOr<std::unique_ptr<Database>> Database::OpenReadOnly(const std::string& path) {
  if (!FileExists(JoinPath(path, "CURRENT"))) {
    return NotFound("there is no store in {}; give the data directory of a moe-coordinator", path);
  }
  std::unique_ptr<Database> database(new Database(path));
  const rocksdb::Status locked =
      rocksdb::Env::Default()->LockFile(JoinPath(path, "LOCK"), &database->lock_);
  if (!locked.ok()) return InUse(path, locked.ToString());

  std::vector<std::string> names;
  MOE_RETURN_IF_ERROR(FromRocks(rocksdb::DB::ListColumnFamilies(DatabaseOptions(), path, &names),
                                "cannot read what is in the store " + path));
  for (const std::string& name : names) {
    if (!IsKnown(name)) return WrittenByANewerOne(path, "it has a column family '" + name + "'");
  }
  rocksdb::DB* db = nullptr;
  std::vector<rocksdb::ColumnFamilyHandle*> handles;
  MOE_RETURN_IF_ERROR(FromRocks(
      rocksdb::DB::OpenForReadOnly(DatabaseOptions(), path, Descriptors(names), &handles, &db),
      "cannot open the store " + path));
  database->Adopt(db, handles, names);
  return database;
}

void Database::Adopt(rocksdb::DB* db, const std::vector<rocksdb::ColumnFamilyHandle*>& handles,
                     const std::vector<std::string>& names) {
  db_.reset(db);
  handles_.assign(kNumFamilies, nullptr);
  for (size_t i = 0; i < names.size(); ++i) {
    const auto* known = std::find(kFamilyNames.begin(), kFamilyNames.end(), names[i]);
    if (known == kFamilyNames.end()) {
      (void)db->DestroyColumnFamilyHandle(handles[i]);  // "default" is not used
    } else {
      handles_[static_cast<size_t>(known - kFamilyNames.begin())] = handles[i];
    }
  }
}

Database::~Database() {
  if (db_ != nullptr) {
    for (rocksdb::ColumnFamilyHandle* handle : handles_) {
      if (handle != nullptr) (void)db_->DestroyColumnFamilyHandle(handle);
    }
    (void)db_->Close();
    db_.reset();
  }
  if (lock_ != nullptr) (void)rocksdb::Env::Default()->UnlockFile(lock_);
}

absl::StatusOr<std::optional<std::string>> Database::Get(Family family,
                                                         const std::string& key) const {
  std::string value;
  if (handle(family) == nullptr) return std::optional<std::string>();
  const rocksdb::Status status = db_->Get(rocksdb::ReadOptions(), handle(family), key, &value);
  if (status.IsNotFound()) return std::optional<std::string>();
  MOE_RETURN_IF_ERROR(FromRocks(status, "cannot read from the store " + path_));
  return std::optional<std::string>(std::move(value));
}

absl::StatusOr<uint64_t> Database::GetNumber(const std::string& key, uint64_t fallback) const {
  MOE_ASSIGN_OR_RETURN(const auto value, Get(Family::kMeta, key));
  if (!value.has_value()) return fallback;
  if (value->size() != 8) {
    return DataLoss("the store {} holds {} bytes under meta/{}, not 8", path_, value->size(), key);
  }
  return ReadU64(*value, 0);
}

absl::Status Database::Scan(
    Family family, const std::string& prefix, const std::string& from,
    const std::function<absl::StatusOr<bool>(const std::string&, const rocksdb::Slice&)>& visit)
    const {
  if (handle(family) == nullptr) return absl::OkStatus();
  rocksdb::ReadOptions options;
  const std::string end = PrefixEnd(prefix);
  const rocksdb::Slice upper_bound(end);
  if (!end.empty()) options.iterate_upper_bound = &upper_bound;
  std::unique_ptr<rocksdb::Iterator> it(db_->NewIterator(options, handle(family)));
  for (it->Seek(from); it->Valid(); it->Next()) {
    MOE_ASSIGN_OR_RETURN(const bool go_on, visit(it->key().ToString(), it->value()));
    if (!go_on) return absl::OkStatus();
  }
  return FromRocks(it->status(), "cannot read from the store " + path_);
}

}  // namespace moe::storage
