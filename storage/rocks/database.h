// The RocksDB database behind a store: its column families, how it is opened, what its errors mean.
// For storage/rocks only.
#pragma once

#include <rocksdb/db.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/rocks/batch.h"

namespace moe::storage {

// "jobs": the family's name in the database and in messages.
const char* FamilyName(Family family);

absl::Status FromRocks(const rocksdb::Status& status, const std::string& what);

// The smallest key that is greater than every key that starts with `prefix`; empty for none.
std::string PrefixEnd(std::string prefix);

class Database {
 public:
  // Makes what is missing. FAILED_PRECONDITION where another process has it, or where it has
  // families that this program does not know; DATA_LOSS where it is damaged.
  // `env`: where the files are; null: on the machine's disks. Outlives the database.
  static absl::StatusOr<std::unique_ptr<Database>> Open(const std::string& path,
                                                        rocksdb::Env* env = nullptr);
  // Changes nothing in the folder but its lock, which it holds: errors as Open, and NOT_FOUND where
  // there is no store. An older store lacks families; they read as empty.
  static absl::StatusOr<std::unique_ptr<Database>> OpenReadOnly(const std::string& path);
  ~Database();

  const std::string& path() const { return path_; }
  rocksdb::DB* rocks() const { return db_.get(); }
  // Null where the store is older than the family.
  rocksdb::ColumnFamilyHandle* handle(Family family) const {
    return handles_[static_cast<size_t>(family)];
  }

  absl::StatusOr<std::optional<std::string>> Get(Family family, const std::string& key) const;
  // Of `meta`, 8 bytes.
  absl::StatusOr<uint64_t> GetNumber(const std::string& key, uint64_t fallback) const;
  // Visits keys from `from` on that start with `prefix`, until `visit` returns false.
  absl::Status Scan(Family family, const std::string& prefix, const std::string& from,
                    const std::function<absl::StatusOr<bool>(const std::string&,
                                                             const rocksdb::Slice&)>& visit) const;

 private:
  explicit Database(std::string path) : path_(std::move(path)) {}
  // Takes over what RocksDB has opened; `names` are those of `handles`.
  void Adopt(rocksdb::DB* db, const std::vector<rocksdb::ColumnFamilyHandle*>& handles,
             const std::vector<std::string>& names);

  const std::string path_;
  rocksdb::FileLock* lock_ = nullptr;  // of a read-only one, which RocksDB does not lock itself
  std::unique_ptr<rocksdb::DB> db_;
  std::vector<rocksdb::ColumnFamilyHandle*> handles_;
};

}  // namespace moe::storage
