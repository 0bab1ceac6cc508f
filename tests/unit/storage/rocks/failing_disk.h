// The machine's disk, which after so many writes takes no more: for what a store does then.
#pragma once

#include <rocksdb/env.h>
#include <rocksdb/file_system.h>

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace moe::storage {

class FailingDisk {
 public:
  // What a write to a full disk says.
  static rocksdb::IOStatus Full() { return rocksdb::IOStatus::NoSpace("the disk is full"); }

  FailingDisk() : env_(rocksdb::NewCompositeEnv(std::make_shared<Files>(this))) {}

  rocksdb::Env* env() { return env_.get(); }
  // So many writes succeed, of RocksDB's threads together, and then none; negative: all.
  void TakeOnly(int64_t writes) {
    left_ = writes;
    limited_ = writes >= 0;
  }
  // Syncs of tables fail, and nothing else.
  void FailTableSyncs(bool fail) { fail_table_syncs_ = fail; }

 private:
  class File final : public rocksdb::FSWritableFileOwnerWrapper {
   public:
    File(FailingDisk* disk, bool is_table, std::unique_ptr<rocksdb::FSWritableFile> file)
        : FSWritableFileOwnerWrapper(std::move(file)), disk_(disk), is_table_(is_table) {}
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             rocksdb::IODebugContext* debug) override {
      if (!disk_->TakesOneMore()) return Full();
      return FSWritableFileOwnerWrapper::Append(data, options, debug);
    }
    rocksdb::IOStatus Append(const rocksdb::Slice& data, const rocksdb::IOOptions& options,
                             const rocksdb::DataVerificationInfo& info,
                             rocksdb::IODebugContext* debug) override {
      if (!disk_->TakesOneMore()) return Full();
      return FSWritableFileOwnerWrapper::Append(data, options, info, debug);
    }
    rocksdb::IOStatus Sync(const rocksdb::IOOptions& options,
                           rocksdb::IODebugContext* debug) override {
      if (is_table_ && disk_->fail_table_syncs_) return rocksdb::IOStatus::IOError("no sync");
      if (!disk_->TakesOneMore()) return Full();
      return FSWritableFileOwnerWrapper::Sync(options, debug);
    }

   private:
    FailingDisk* const disk_;
    const bool is_table_;
  };

  class Files final : public rocksdb::FileSystemWrapper {
   public:
    explicit Files(FailingDisk* disk)
        : FileSystemWrapper(rocksdb::FileSystem::Default()), disk_(disk) {}
    const char* Name() const override { return "FailingDisk"; }
    rocksdb::IOStatus NewWritableFile(const std::string& name, const rocksdb::FileOptions& options,
                                      std::unique_ptr<rocksdb::FSWritableFile>* result,
                                      rocksdb::IODebugContext* debug) override {
      if (!disk_->TakesOneMore()) return Full();
      std::unique_ptr<rocksdb::FSWritableFile> file;
      const rocksdb::IOStatus status =
          FileSystemWrapper::NewWritableFile(name, options, &file, debug);
      if (status.ok()) {
        *result = std::make_unique<File>(disk_, name.ends_with(".sst"), std::move(file));
      }
      return status;
    }
    // RocksDB's own log is on the same disk.
    rocksdb::IOStatus NewLogger(const std::string& name, const rocksdb::IOOptions& options,
                                std::shared_ptr<rocksdb::Logger>* result,
                                rocksdb::IODebugContext* debug) override {
      return rocksdb::FileSystem::NewLogger(name, options, result, debug);
    }

   private:
    FailingDisk* const disk_;
  };

  bool TakesOneMore() { return !limited_ || left_.fetch_sub(1) > 0; }

  std::atomic<bool> limited_ = false;
  std::atomic<int64_t> left_ = 0;
  std::atomic<bool> fail_table_syncs_ = false;
  std::unique_ptr<rocksdb::Env> env_;
};

}  // namespace moe::storage
