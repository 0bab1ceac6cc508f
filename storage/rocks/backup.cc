#include "storage/rocks/backup.h"

#include <fcntl.h>
#include <rocksdb/utilities/backup_engine.h>
#include <rocksdb/write_batch.h>
#include <stdio.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <map>
#include <memory>

#include "common/clock.h"
#include "common/file.h"
#include "common/status.h"
#include "storage/rocks/database.h"

namespace moe::storage {
namespace {

// Added to every number where the replaced store cannot tell how far it was. Nobody submits that
// many jobs between a backup and the damage.
constexpr uint64_t kBlindSkip = 1'000'000;

using Numbers = std::map<std::string, uint64_t>;  // of `meta`, by key

bool IsSequence(const std::string& key) {
  return key == "revision" || key == "next_job" || key == "next_pipeline" ||
         key.starts_with(VersionCounterKey(""));
}

absl::StatusOr<Numbers> ReadSequences(const Database& database) {
  Numbers numbers;
  MOE_RETURN_IF_ERROR(database.Scan(
      Family::kMeta, "", "",
      [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
        if (!IsSequence(key)) return true;
        if (value.size() != 8) return DataLoss("meta/{} has {} bytes, not 8", key, value.size());
        numbers[key] = ReadU64(value.ToString(), 0);
        return true;
      }));
  return numbers;
}

absl::Status CheckThereIsAStore(const std::string& path) {
  if (FileExists(JoinPath(path, "CURRENT"))) return absl::OkStatus();
  return NotFound("there is no store in {}; give the data directory of a moe-coordinator", path);
}

uint64_t BytesIn(const std::string& folder) {
  uint64_t bytes = 0;
  std::error_code ignored;  // files come and go while RocksDB works
  for (const auto& entry : std::filesystem::directory_iterator(folder, ignored)) {
    if (entry.is_regular_file(ignored)) bytes += entry.file_size(ignored);
  }
  return bytes;
}

Backup FromRocksInfo(const rocksdb::BackupInfo& info) {
  return {.id = info.backup_id, .unix_seconds = info.timestamp, .size_bytes = info.size};
}

rocksdb::BackupEngineOptions EngineOptions(const std::string& folder) {
  rocksdb::BackupEngineOptions options(folder);
  options.sync = true;
  return options;
}

absl::StatusOr<std::unique_ptr<rocksdb::BackupEngineReadOnly>> OpenBackups(
    const std::string& folder) {
  if (!FileExists(JoinPath(folder, "meta"))) {
    return NotFound("{} holds no backups; make one with: moe-coordinator backup", folder);
  }
  rocksdb::BackupEngineReadOnly* engine = nullptr;
  MOE_RETURN_IF_ERROR(FromRocks(
      rocksdb::BackupEngineReadOnly::Open(EngineOptions(folder), rocksdb::Env::Default(), &engine),
      "cannot read the backups in " + folder));
  return std::unique_ptr<rocksdb::BackupEngineReadOnly>(engine);
}

// What the store at `path` knows; nothing where it is damaged.
absl::StatusOr<std::optional<Numbers>> SequencesOf(const std::string& path) {
  const auto database = Database::OpenReadOnly(path);
  if (absl::IsFailedPrecondition(database.status())) return database.status();
  if (!database.ok()) return std::optional<Numbers>();
  auto numbers = ReadSequences(**database);
  if (!numbers.ok()) return std::optional<Numbers>();
  return std::optional<Numbers>(*std::move(numbers));
}

// Raises the sequences of the restored store to those of the one it replaces, and marks it.
absl::StatusOr<uint64_t> GoOnFrom(const std::string& path, const std::optional<Numbers>& replaced) {
  MOE_ASSIGN_OR_RETURN(const std::unique_ptr<Database> database, Database::Open(path));
  MOE_ASSIGN_OR_RETURN(Numbers numbers, ReadSequences(*database));
  const uint64_t next_job = numbers["next_job"];
  if (replaced.has_value()) {
    for (const auto& [key, number] : *replaced) numbers[key] = std::max(numbers[key], number);
  } else {
    for (auto& [key, number] : numbers) number += kBlindSkip;
  }
  rocksdb::WriteBatch batch;
  rocksdb::ColumnFamilyHandle* meta = database->handle(Family::kMeta);
  const auto put = [&](const std::string& key, uint64_t number) {
    std::string value;
    AppendU64(number, &value);
    (void)batch.Put(meta, key, value);
  };
  for (const auto& [key, number] : numbers) put(key, number);
  put(kRestoredKey, static_cast<uint64_t>(RealClock().UnixMillis()));
  rocksdb::WriteOptions options;
  options.sync = true;
  MOE_RETURN_IF_ERROR(
      FromRocks(database->rocks()->Write(options, &batch), "cannot write to the store " + path));
  return numbers["next_job"] - next_job;
}

absl::Status Rename(const std::string& from, const std::string& to) {
  if (::rename(from.c_str(), to.c_str()) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, fmt::format("cannot rename {} to {}", from, to));
}

}  // namespace

absl::StatusOr<Backup> MakeBackup(const std::string& store, const std::string& folder, int keep) {
  MOE_RETURN_IF_ERROR(CheckThereIsAStore(store));
  MOE_ASSIGN_OR_RETURN(const std::unique_ptr<Database> database, Database::Open(store));
  return AddBackup(*database, folder, keep);
}

absl::StatusOr<Backup> AddBackup(const Database& database, const std::string& folder, int keep) {
  MOE_RETURN_IF_ERROR(
      FromRocks(database.rocks()->VerifyChecksum(),
                "the store " + database.path() + " is damaged and was not backed up"));
  MOE_ASSIGN_OR_RETURN(const auto store_id, database.Get(Family::kMeta, "store_id"));
  MOE_RETURN_IF_ERROR(MakeDirectories(folder));
  rocksdb::BackupEngine* opened = nullptr;
  MOE_RETURN_IF_ERROR(FromRocks(
      rocksdb::BackupEngine::Open(EngineOptions(folder), rocksdb::Env::Default(), &opened),
      "cannot write backups to " + folder));
  const std::unique_ptr<rocksdb::BackupEngine> engine(opened);
  std::vector<rocksdb::BackupInfo> before;
  engine->GetBackupInfo(&before);
  if (!before.empty() && before.back().app_metadata != store_id.value_or("")) {
    return FailedPrecondition(
        "{} holds backups of another store ({}, not {}); choose a folder of its own", folder,
        before.back().app_metadata, store_id.value_or(""));
  }
  rocksdb::CreateBackupOptions options;
  options.flush_before_backup = true;
  MOE_RETURN_IF_ERROR(FromRocks(
      engine->CreateNewBackupWithMetadata(options, database.rocks(), store_id.value_or("")),
      "cannot write a backup to " + folder));
  MOE_RETURN_IF_ERROR(FromRocks(engine->PurgeOldBackups(static_cast<uint32_t>(keep)),
                                "cannot remove old backups from " + folder));
  std::vector<rocksdb::BackupInfo> all;
  engine->GetBackupInfo(&all);
  return FromRocksInfo(all.back());
}

absl::StatusOr<std::vector<Backup>> ListBackups(const std::string& folder) {
  MOE_ASSIGN_OR_RETURN(const auto engine, OpenBackups(folder));
  std::vector<rocksdb::BackupInfo> infos;
  engine->GetBackupInfo(&infos);
  if (infos.empty()) {
    return NotFound("{} holds no backup that is whole; make one with: moe-coordinator backup",
                    folder);
  }
  std::vector<Backup> backups;
  for (const rocksdb::BackupInfo& info : infos) backups.push_back(FromRocksInfo(info));
  return backups;
}

absl::StatusOr<Restored> RestoreBackup(const std::string& folder, uint32_t id,
                                       const std::string& store) {
  MOE_ASSIGN_OR_RETURN(const std::vector<Backup> backups, ListBackups(folder));
  const auto wanted = id == 0 ? std::prev(backups.end())
                              : std::find_if(backups.begin(), backups.end(),
                                             [id](const Backup& b) { return b.id == id; });
  if (wanted == backups.end()) {
    return NotFound("{} holds no backup {}; it has {} to {}", folder, id, backups.front().id,
                    backups.back().id);
  }
  MOE_ASSIGN_OR_RETURN(const auto engine, OpenBackups(folder));
  MOE_RETURN_IF_ERROR(FromRocks(engine->VerifyBackup(wanted->id, /*verify_with_checksum=*/true),
                                fmt::format("backup {} in {} is damaged", wanted->id, folder)));

  const bool replaces = FileExists(store);
  std::optional<Numbers> replaced;
  if (replaces) {
    MOE_ASSIGN_OR_RETURN(replaced, SequencesOf(store));
  } else {
    replaced.emplace();  // a new place: nothing was given since
  }
  // Beside its place, where an interrupted run has left nothing that counts.
  const std::string fresh = store + ".restoring";
  MOE_RETURN_IF_ERROR(RemoveTree(fresh));
  MOE_RETURN_IF_ERROR(MakeDirectories(fresh));
  MOE_RETURN_IF_ERROR(FromRocks(engine->RestoreDBFromBackup(wanted->id, fresh, fresh),
                                fmt::format("cannot restore backup {} to {}", wanted->id, fresh)));
  Restored result{.backup = *wanted, .set_aside = "", .skipped_jobs = 0};
  MOE_ASSIGN_OR_RETURN(result.skipped_jobs, GoOnFrom(fresh, replaced));
  MOE_RETURN_IF_ERROR(SyncDirectory(fresh));

  const std::string parent = std::filesystem::path(store).parent_path().string();
  if (!replaces) {
    MOE_RETURN_IF_ERROR(Rename(fresh, store));
    MOE_RETURN_IF_ERROR(SyncDirectory(parent));
    return result;
  }
  // One step: at no moment is there no store.
  if (::renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, store.c_str(), RENAME_EXCHANGE) != 0) {
    return ErrnoStatus(errno, fmt::format("cannot exchange {} and {}", fresh, store));
  }
  MOE_RETURN_IF_ERROR(SyncDirectory(parent));
  result.set_aside = store + ".before-restore";
  MOE_RETURN_IF_ERROR(RemoveTree(result.set_aside));
  MOE_RETURN_IF_ERROR(Rename(fresh, result.set_aside));
  return result;
}

absl::StatusOr<Compaction> CompactStore(const std::string& store) {
  MOE_RETURN_IF_ERROR(CheckThereIsAStore(store));
  Compaction result{.bytes_before = BytesIn(store), .bytes_after = 0};
  {
    MOE_ASSIGN_OR_RETURN(const std::unique_ptr<Database> database, Database::Open(store));
    for (int family = 0; family < kNumFamilies; ++family) {
      MOE_RETURN_IF_ERROR(
          FromRocks(database->rocks()->CompactRange(rocksdb::CompactRangeOptions(),
                                                    database->handle(static_cast<Family>(family)),
                                                    nullptr, nullptr),
                    "cannot compact the store " + store));
    }
  }
  result.bytes_after = BytesIn(store);
  return result;
}

}  // namespace moe::storage
