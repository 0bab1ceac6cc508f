// What was read of models, for as long as their files are the same: one that many jobs name is
// opened and checked once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "coordinator/job_spec.h"

namespace moe::coordinator {

// Which files are at a path: equal for as long as none of them is written, replaced, added or
// removed.
struct FilesStamp {
  std::string identity;
  int64_t newest_unix_nanos = 0;  // the last change of one of them, its name and rights included
};

// Of a file, or of a folder and what is in it, not below. nullopt where that cannot be told.
std::optional<FilesStamp> StampOf(const std::string& path);

// Thread-safe.
class ModelFactsCache {
 public:
  using Reader = std::function<absl::StatusOr<ModelFacts>(const std::string& path)>;
  // Files that changed this short a time ago may change again without its showing.
  static constexpr int64_t kSettledNanos = 1'000'000'000;
  static constexpr size_t kMaxModels = 256;

  // What `read` gave for the model at `path` last time, or gives now where its files are others.
  // What cannot be read is not remembered. `now_unix_nanos`: of the file system's clock.
  absl::StatusOr<ModelFacts> Get(const std::string& path, int64_t now_unix_nanos,
                                 const Reader& read);

 private:
  struct Entry {
    std::string identity;
    ModelFacts facts;
  };

  absl::Mutex mutex_;
  std::map<std::string, Entry> entries_ ABSL_GUARDED_BY(mutex_);  // by path
};

}  // namespace moe::coordinator
