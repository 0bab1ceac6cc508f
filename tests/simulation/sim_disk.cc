#include "tests/simulation/sim_disk.h"

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/crc32c.h"
#include "common/philox.h"

namespace moe::simulation {
namespace {

using rocksdb::FileOptions;
using rocksdb::IODebugContext;
using rocksdb::IOOptions;
using rocksdb::IOStatus;
using rocksdb::Slice;

constexpr size_t kSectorBytes = 512;

struct File {
  std::string bytes;
  size_t synced = 0;  // so many are certainly on the platter
};
using Names = std::map<std::string, std::shared_ptr<File>>;
// Names that get another file, or none, together or not at all.
using NameChange = std::vector<std::pair<std::string, std::shared_ptr<File>>>;

void Apply(const NameChange& change, Names& names) {
  for (const auto& [name, file] : change) {
    if (file == nullptr) {
      names.erase(name);
    } else {
      names[name] = file;
    }
  }
}

}  // namespace

class SimDisk::FileSystem final : public rocksdb::FileSystem {
 public:
  FileSystem(uint64_t seed, bool ignores_sync) : seed_(seed), ignores_sync_(ignores_sync) {}

  void FailAfter(int64_t changes) {
    absl::MutexLock lock(&mutex_);
    changes_left_ = changes;
  }
  void Fail() {
    absl::MutexLock lock(&mutex_);
    failed_ = true;
  }
  bool failed() {
    absl::MutexLock lock(&mutex_);
    return failed_;
  }
  void SetFull(bool full) {
    absl::MutexLock lock(&mutex_);
    full_ = full;
  }
  void Restart(Outage outage);

  // What the files of RocksDB do.
  IOStatus Append(File& file, const Slice& data);
  IOStatus Sync(File& file);
  IOStatus SyncNames();
  size_t Read(const File& file, uint64_t offset, size_t size, char* scratch);
  uint64_t Size(const File& file);
  IOStatus Truncate(File& file, uint64_t size);

  // rocksdb::FileSystem
  const char* Name() const override { return "SimDisk"; }
  IOStatus NewSequentialFile(const std::string& name, const FileOptions&,
                             std::unique_ptr<rocksdb::FSSequentialFile>* result,
                             IODebugContext*) override;
  IOStatus NewRandomAccessFile(const std::string& name, const FileOptions&,
                               std::unique_ptr<rocksdb::FSRandomAccessFile>* result,
                               IODebugContext*) override;
  IOStatus NewWritableFile(const std::string& name, const FileOptions&,
                           std::unique_ptr<rocksdb::FSWritableFile>* result,
                           IODebugContext*) override;
  IOStatus NewDirectory(const std::string& name, const IOOptions&,
                        std::unique_ptr<rocksdb::FSDirectory>* result, IODebugContext*) override;
  IOStatus FileExists(const std::string& name, const IOOptions&, IODebugContext*) override;
  IOStatus GetChildren(const std::string& folder, const IOOptions&, std::vector<std::string>* names,
                       IODebugContext*) override;
  IOStatus DeleteFile(const std::string& name, const IOOptions&, IODebugContext*) override;
  IOStatus RenameFile(const std::string& from, const std::string& to, const IOOptions&,
                      IODebugContext*) override;
  IOStatus CreateDir(const std::string&, const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();  // folders are only prefixes of names
  }
  IOStatus CreateDirIfMissing(const std::string&, const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus DeleteDir(const std::string&, const IOOptions&, IODebugContext*) override {
    return IOStatus::OK();
  }
  IOStatus GetFileSize(const std::string& name, const IOOptions&, uint64_t* size,
                       IODebugContext*) override;
  IOStatus GetFileModificationTime(const std::string&, const IOOptions&, uint64_t* seconds,
                                   IODebugContext*) override {
    *seconds = 0;
    return IOStatus::OK();
  }
  IOStatus LockFile(const std::string&, const IOOptions&, rocksdb::FileLock** lock,
                    IODebugContext*) override {
    *lock = new rocksdb::FileLock();  // RocksDB's interface; UnlockFile deletes it
    return IOStatus::OK();
  }
  IOStatus UnlockFile(rocksdb::FileLock* lock, const IOOptions&, IODebugContext*) override {
    delete lock;
    return IOStatus::OK();
  }
  IOStatus GetTestDirectory(const IOOptions&, std::string* path, IODebugContext*) override {
    *path = "/test";
    return IOStatus::OK();
  }
  IOStatus GetAbsolutePath(const std::string& path, const IOOptions&, std::string* absolute,
                           IODebugContext*) override {
    *absolute = path;
    return IOStatus::OK();
  }
  IOStatus IsDirectory(const std::string& path, const IOOptions&, bool* is_directory,
                       IODebugContext*) override {
    absl::MutexLock lock(&mutex_);
    *is_directory = !names_.contains(path);
    return IOStatus::OK();
  }

 private:
  // Counts a change. An error where the disk has failed, or does so now.
  IOStatus BeginChange() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  IOStatus ChangeNames(const NameChange& change) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  std::shared_ptr<File> Find(const std::string& name) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // What is left of a file after the power went.
  File Torn(const std::string& name, const File& file) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  // A draw that depends on nothing but the seed, the outage and `what`: RocksDB's threads may have
  // come in any order.
  uint64_t Draw(const std::string& what) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const uint64_t seed_;
  const bool ignores_sync_;
  const std::thread::id owner_ = std::this_thread::get_id();

  absl::Mutex mutex_;
  Names names_ ABSL_GUARDED_BY(mutex_);
  Names durable_names_ ABSL_GUARDED_BY(mutex_);
  std::vector<NameChange> unsynced_changes_ ABSL_GUARDED_BY(mutex_);
  int64_t changes_left_ ABSL_GUARDED_BY(mutex_) = -1;  // negative: as many as you like
  bool failed_ ABSL_GUARDED_BY(mutex_) = false;
  bool tears_ ABSL_GUARDED_BY(mutex_) = false;  // the change that fails now is done in part
  bool full_ ABSL_GUARDED_BY(mutex_) = false;
  uint32_t outages_ ABSL_GUARDED_BY(mutex_) = 0;
};

namespace {

class SequentialFile final : public rocksdb::FSSequentialFile {
 public:
  using Reader = std::function<size_t(uint64_t offset, size_t size, char* scratch)>;
  explicit SequentialFile(Reader read) : read_(std::move(read)) {}
  IOStatus Read(size_t size, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) override {
    const size_t got = read_(offset_, size, scratch);
    offset_ += got;
    *result = Slice(scratch, got);
    return IOStatus::OK();
  }
  IOStatus Skip(uint64_t size) override {
    offset_ += size;
    return IOStatus::OK();
  }

 private:
  const Reader read_;
  uint64_t offset_ = 0;
};

class RandomAccessFile final : public rocksdb::FSRandomAccessFile {
 public:
  explicit RandomAccessFile(SequentialFile::Reader read) : read_(std::move(read)) {}
  IOStatus Read(uint64_t offset, size_t size, const IOOptions&, Slice* result, char* scratch,
                IODebugContext*) const override {
    *result = Slice(scratch, read_(offset, size, scratch));
    return IOStatus::OK();
  }

 private:
  const SequentialFile::Reader read_;
};

template <typename FileSystem>
class WritableFile final : public rocksdb::FSWritableFile {
 public:
  WritableFile(FileSystem* files, std::shared_ptr<File> file)
      : files_(files), file_(std::move(file)) {}
  IOStatus Append(const Slice& data, const IOOptions&, IODebugContext*) override {
    return files_->Append(*file_, data);
  }
  IOStatus Append(const Slice& data, const IOOptions&, const rocksdb::DataVerificationInfo&,
                  IODebugContext*) override {
    return files_->Append(*file_, data);
  }
  IOStatus Truncate(uint64_t size, const IOOptions&, IODebugContext*) override {
    return files_->Truncate(*file_, size);
  }
  IOStatus Close(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Flush(const IOOptions&, IODebugContext*) override { return IOStatus::OK(); }
  IOStatus Sync(const IOOptions&, IODebugContext*) override { return files_->Sync(*file_); }
  uint64_t GetFileSize(const IOOptions&, IODebugContext*) override { return files_->Size(*file_); }

 private:
  FileSystem* const files_;
  const std::shared_ptr<File> file_;
};

template <typename FileSystem>
class Directory final : public rocksdb::FSDirectory {
 public:
  explicit Directory(FileSystem* files) : files_(files) {}
  IOStatus Fsync(const IOOptions&, IODebugContext*) override { return files_->SyncNames(); }

 private:
  FileSystem* const files_;
};

}  // namespace

// ---------------------------------------------------------------------------------------------
// Changes

IOStatus SimDisk::FileSystem::BeginChange() {
  if (failed_) return IOStatus::IOError("the disk has failed");
  if (changes_left_ < 0 || std::this_thread::get_id() != owner_) return IOStatus::OK();
  if (changes_left_-- > 0) return IOStatus::OK();
  failed_ = true;
  tears_ = true;
  return IOStatus::IOError("the disk fails");
}

IOStatus SimDisk::FileSystem::Append(File& file, const Slice& data) {
  absl::MutexLock lock(&mutex_);
  if (full_) return IOStatus::NoSpace("the disk is full");
  const IOStatus status = BeginChange();
  const bool torn = std::exchange(tears_, false) && data.size() > 0;
  const size_t size = status.ok() ? data.size() : torn ? Draw("append") % data.size() : 0;
  file.bytes.append(data.data(), size);
  return status;
}

IOStatus SimDisk::FileSystem::Sync(File& file) {
  absl::MutexLock lock(&mutex_);
  const IOStatus status = BeginChange();
  if (status.ok() && !ignores_sync_) file.synced = file.bytes.size();
  return status;
}

IOStatus SimDisk::FileSystem::Truncate(File& file, uint64_t size) {
  absl::MutexLock lock(&mutex_);
  const IOStatus status = BeginChange();
  if (!status.ok()) return status;
  file.bytes.resize(size);
  file.synced = std::min<size_t>(file.synced, size);
  return status;
}

IOStatus SimDisk::FileSystem::ChangeNames(const NameChange& change) {
  const IOStatus status = BeginChange();
  if (!status.ok()) return status;
  Apply(change, names_);
  unsynced_changes_.push_back(change);
  return status;
}

IOStatus SimDisk::FileSystem::SyncNames() {
  absl::MutexLock lock(&mutex_);
  const IOStatus status = BeginChange();
  if (!status.ok() || ignores_sync_) return status;
  durable_names_ = names_;
  unsynced_changes_.clear();
  return status;
}

// ---------------------------------------------------------------------------------------------
// Outages

uint64_t SimDisk::FileSystem::Draw(const std::string& what) {
  const auto words = Philox(seed_, RandomStream::kTest, outages_, Crc32c(what.data(), what.size()));
  return uint64_t{words[0]} << 32 | words[1];
}

File SimDisk::FileSystem::Torn(const std::string& name, const File& file) {
  File left = {.bytes = file.bytes, .synced = 0};
  const size_t unsynced = file.bytes.size() - file.synced;
  const uint64_t draw = Draw(name);
  if (unsynced > 0) {
    const size_t some = file.synced + (draw >> 8) % unsynced;
    switch (draw % 4) {
      case 0:  // nothing of it
        left.bytes.resize(file.synced);
        break;
      case 1:  // a part
        left.bytes.resize(some);
        break;
      case 2: {  // all but a sector, which a later one overtook
        const size_t end = std::min(file.bytes.size(), (some / kSectorBytes + 1) * kSectorBytes);
        std::fill(left.bytes.begin() + static_cast<ptrdiff_t>(some),
                  left.bytes.begin() + static_cast<ptrdiff_t>(end), '\0');
        break;
      }
      default:  // all of it
        break;
    }
  }
  left.synced = left.bytes.size();
  return left;
}

void SimDisk::FileSystem::Restart(Outage outage) {
  absl::MutexLock lock(&mutex_);
  if (outage == Outage::kPower) {
    for (const NameChange& change : unsynced_changes_) {
      if (Draw(change.front().first) % 4 == 0) break;
      Apply(change, durable_names_);
    }
    names_ = durable_names_;
  }
  // Files of their own: what the process that is gone still holds is not what is on the disk.
  for (auto& [name, file] : names_) {
    File left = outage == Outage::kPower ? Torn(name, *file) : *file;
    file = std::make_shared<File>(std::move(left));
  }
  if (outage == Outage::kPower) durable_names_ = names_;
  unsynced_changes_.clear();
  changes_left_ = -1;
  failed_ = false;
  tears_ = false;
  ++outages_;
}

// ---------------------------------------------------------------------------------------------
// Reading

std::shared_ptr<File> SimDisk::FileSystem::Find(const std::string& name) {
  const auto it = names_.find(name);
  return it == names_.end() ? nullptr : it->second;
}

size_t SimDisk::FileSystem::Read(const File& file, uint64_t offset, size_t size, char* scratch) {
  absl::MutexLock lock(&mutex_);
  if (offset >= file.bytes.size()) return 0;
  const size_t got = std::min<size_t>(size, file.bytes.size() - offset);
  std::memcpy(scratch, file.bytes.data() + offset, got);
  return got;
}

uint64_t SimDisk::FileSystem::Size(const File& file) {
  absl::MutexLock lock(&mutex_);
  return file.bytes.size();
}

IOStatus SimDisk::FileSystem::NewSequentialFile(const std::string& name, const FileOptions&,
                                                std::unique_ptr<rocksdb::FSSequentialFile>* result,
                                                IODebugContext*) {
  absl::MutexLock lock(&mutex_);
  const std::shared_ptr<File> file = Find(name);
  if (file == nullptr) return IOStatus::PathNotFound(name);
  *result =
      std::make_unique<SequentialFile>([this, file](uint64_t offset, size_t size, char* scratch) {
        return Read(*file, offset, size, scratch);
      });
  return IOStatus::OK();
}

IOStatus SimDisk::FileSystem::NewRandomAccessFile(
    const std::string& name, const FileOptions&,
    std::unique_ptr<rocksdb::FSRandomAccessFile>* result, IODebugContext*) {
  absl::MutexLock lock(&mutex_);
  const std::shared_ptr<File> file = Find(name);
  if (file == nullptr) return IOStatus::PathNotFound(name);
  *result =
      std::make_unique<RandomAccessFile>([this, file](uint64_t offset, size_t size, char* scratch) {
        return Read(*file, offset, size, scratch);
      });
  return IOStatus::OK();
}

IOStatus SimDisk::FileSystem::NewWritableFile(const std::string& name, const FileOptions&,
                                              std::unique_ptr<rocksdb::FSWritableFile>* result,
                                              IODebugContext*) {
  absl::MutexLock lock(&mutex_);
  if (full_) return IOStatus::NoSpace("the disk is full");
  auto file = std::make_shared<File>();
  const IOStatus status = ChangeNames({{name, file}});
  if (status.ok()) *result = std::make_unique<WritableFile<FileSystem>>(this, std::move(file));
  return status;
}

IOStatus SimDisk::FileSystem::NewDirectory(const std::string&, const IOOptions&,
                                           std::unique_ptr<rocksdb::FSDirectory>* result,
                                           IODebugContext*) {
  *result = std::make_unique<Directory<FileSystem>>(this);
  return IOStatus::OK();
}

IOStatus SimDisk::FileSystem::FileExists(const std::string& name, const IOOptions&,
                                         IODebugContext*) {
  absl::MutexLock lock(&mutex_);
  return names_.contains(name) ? IOStatus::OK() : IOStatus::NotFound(name);
}

IOStatus SimDisk::FileSystem::GetChildren(const std::string& folder, const IOOptions&,
                                          std::vector<std::string>* names, IODebugContext*) {
  absl::MutexLock lock(&mutex_);
  names->clear();
  const std::string prefix = folder + "/";
  for (auto it = names_.lower_bound(prefix); it != names_.end() && it->first.starts_with(prefix);
       ++it) {
    names->push_back(it->first.substr(prefix.size()));
  }
  return IOStatus::OK();
}

IOStatus SimDisk::FileSystem::DeleteFile(const std::string& name, const IOOptions&,
                                         IODebugContext*) {
  absl::MutexLock lock(&mutex_);
  if (!names_.contains(name)) return IOStatus::NotFound(name);
  return ChangeNames({{name, nullptr}});
}

IOStatus SimDisk::FileSystem::RenameFile(const std::string& from, const std::string& to,
                                         const IOOptions&, IODebugContext*) {
  absl::MutexLock lock(&mutex_);
  const std::shared_ptr<File> file = Find(from);
  if (file == nullptr) return IOStatus::NotFound(from);
  return ChangeNames({{to, file}, {from, nullptr}});
}

IOStatus SimDisk::FileSystem::GetFileSize(const std::string& name, const IOOptions&, uint64_t* size,
                                          IODebugContext*) {
  absl::MutexLock lock(&mutex_);
  const std::shared_ptr<File> file = Find(name);
  if (file == nullptr) return IOStatus::PathNotFound(name);
  *size = file->bytes.size();
  return IOStatus::OK();
}

// ---------------------------------------------------------------------------------------------

SimDisk::SimDisk(uint64_t seed, bool ignores_sync)
    : files_(std::make_shared<FileSystem>(seed, ignores_sync)),
      env_(rocksdb::NewCompositeEnv(files_)) {}
SimDisk::~SimDisk() = default;

rocksdb::Env* SimDisk::env() { return env_.get(); }
void SimDisk::FailAfter(int64_t changes) { files_->FailAfter(changes); }
void SimDisk::Fail() { files_->Fail(); }
bool SimDisk::failed() const { return files_->failed(); }
void SimDisk::SetFull(bool full) { files_->SetFull(full); }
void SimDisk::Restart(Outage outage) { files_->Restart(outage); }

}  // namespace moe::simulation
