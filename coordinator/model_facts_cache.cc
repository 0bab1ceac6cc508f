#include "coordinator/model_facts_cache.h"

#include <dirent.h>
#include <sys/stat.h>

#include <algorithm>
#include <memory>

#include "common/status.h"

namespace moe::coordinator {
namespace {

int64_t Nanos(const timespec& time) { return int64_t{time.tv_sec} * 1'000'000'000 + time.tv_nsec; }

void Add(const std::string& path, const struct stat& info, FilesStamp* stamp) {
  stamp->identity += fmt::format("{}\n{} {} {} {} {}\n", path, info.st_dev, info.st_ino,
                                 info.st_size, Nanos(info.st_mtim), Nanos(info.st_ctim));
  stamp->newest_unix_nanos =
      std::max({stamp->newest_unix_nanos, Nanos(info.st_mtim), Nanos(info.st_ctim)});
}

}  // namespace

std::optional<FilesStamp> StampOf(const std::string& path) {
  FilesStamp stamp;
  struct stat info;
  if (::stat(path.c_str(), &info) != 0) return std::nullopt;
  Add(path, info, &stamp);
  if (!S_ISDIR(info.st_mode)) return stamp;
  const std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(path.c_str()), ::closedir);
  if (dir == nullptr) return std::nullopt;
  while (const dirent* entry = ::readdir(dir.get())) {
    const std::string name = entry->d_name;
    if (name == "." || name == "..") continue;
    // Through links: it is the file itself that must not change.
    if (::fstatat(::dirfd(dir.get()), entry->d_name, &info, 0) != 0) return std::nullopt;
    Add(name, info, &stamp);
  }
  return stamp;
}

absl::StatusOr<ModelFacts> ModelFactsCache::Get(const std::string& path, int64_t now_unix_nanos,
                                                const Reader& read) {
  const std::optional<FilesStamp> stamp = StampOf(path);
  if (!stamp.has_value() || stamp->newest_unix_nanos > now_unix_nanos - kSettledNanos) {
    return read(path);
  }
  {
    absl::MutexLock lock(&mutex_);
    const auto known = entries_.find(path);
    if (known != entries_.end() && known->second.identity == stamp->identity) {
      return known->second.facts;
    }
  }
  MOE_ASSIGN_OR_RETURN(ModelFacts facts, read(path));
  absl::MutexLock lock(&mutex_);
  if (entries_.size() >= kMaxModels) entries_.clear();
  entries_[path] = {stamp->identity, facts};
  return facts;
}

}  // namespace moe::coordinator
