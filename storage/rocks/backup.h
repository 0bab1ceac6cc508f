// Copies of a store to go back to, over RocksDB's BackupEngine: incremental, checksummed, and made
// or brought back in one step, so that whatever ends the program leaves the old or the new.
//
// But for Store::BackUp all of it wants the store for itself: FAILED_PRECONDITION while a
// coordinator has it.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moe::storage {

class Database;

struct Backup {
  uint32_t id = 0;  // counts up in its folder
  int64_t unix_seconds = 0;
  uint64_t size_bytes = 0;  // of its files, those shared with other backups too
};

// Adds a backup of the store at `store` to `folder`, which may hold backups of this store only, and
// keeps the `keep` newest. DATA_LOSS where the store is damaged: nothing is written then, so that
// good backups are not pushed out by bad ones.
absl::StatusOr<Backup> MakeBackup(const std::string& store, const std::string& folder, int keep);

// The same of a store that is open, and goes on meanwhile (Store::BackUp).
absl::StatusOr<Backup> AddBackup(const Database& database, const std::string& folder, int keep);

// Oldest first. NOT_FOUND where `folder` holds none.
absl::StatusOr<std::vector<Backup>> ListBackups(const std::string& folder);

struct Restored {
  Backup backup;
  // Where the store that was there before is now; empty where there was none.
  std::string set_aside;
  // How many job numbers are left out, so that none that was given since the backup is given again.
  uint64_t skipped_jobs = 0;
};

// Brings backup `id` (0: the newest) back as the store at `store`, after comparing it with its
// checksums. Numbers of jobs, pipelines, versions and revisions go on where the replaced store was;
// where that cannot be read, far above. The coordinator that opens the store sets aside artefacts
// that it does not know (Store::is_restored). NOT_FOUND where there is no such backup.
absl::StatusOr<Restored> RestoreBackup(const std::string& folder, uint32_t id,
                                       const std::string& store);

struct Compaction {
  uint64_t bytes_before = 0;
  uint64_t bytes_after = 0;
};

// Rewrites the store without what was deleted or replaced.
absl::StatusOr<Compaction> CompactStore(const std::string& store);

}  // namespace moe::storage
