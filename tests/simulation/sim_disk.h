// The disk of the coordinator's machine, in memory: a file system for RocksDB that forgets, tears
// and zeroes what was not synced when the power goes, fails at a chosen step of a write, and fills.
//
// Metadata is ordered, as journalling file systems keep it: of the directory changes since the last
// sync of the directory a prefix survives. Data is not: of each file's unsynced bytes nothing, a
// part, all, or all but a hole survives.
#pragma once

#include <cstdint>
#include <memory>

namespace rocksdb {
class Env;
}  // namespace rocksdb

namespace moe::simulation {

enum class Outage {
  kProcess,  // killed: what was written is there
  kPower,    // only what was synced is certainly there
};

class SimDisk {
 public:
  // Belongs to the thread that makes it; RocksDB's own threads may use the file system as well.
  SimDisk(uint64_t seed, bool ignores_sync);
  ~SimDisk();

  rocksdb::Env* env();

  // The disk takes so many more changes of the simulation's thread; the one after them is torn and
  // fails, as does everything until the next Restart.
  void FailAfter(int64_t changes);
  // Fails now.
  void Fail();
  bool failed() const;
  // While full, no file can grow.
  void SetFull(bool full);
  // What a process that starts after the outage finds.
  void Restart(Outage outage);

 private:
  class FileSystem;
  std::shared_ptr<FileSystem> files_;
  std::unique_ptr<rocksdb::Env> env_;
};

}  // namespace moe::simulation
