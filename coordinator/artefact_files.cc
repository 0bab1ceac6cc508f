#include "coordinator/artefact_files.h"

#include <spdlog/spdlog.h>

#include <deque>
#include <thread>
#include <utility>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/file.h"
#include "common/status.h"
#include "coordinator/job_spec.h"
#include "storage/artefacts/manifest.h"

namespace moe::coordinator {
namespace {

class FileWorkThreads final : public FileWork {
 public:
  explicit FileWorkThreads(int threads) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { Run(); });
  }
  ~FileWorkThreads() override {
    {
      absl::MutexLock lock(&mutex_);
      stopping_ = true;
    }
    for (std::thread& thread : threads_) thread.join();
  }

  void Post(std::function<void()> work) override {
    absl::MutexLock lock(&mutex_);
    queue_.push_back(std::move(work));
  }

 private:
  bool Ready() const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_) { return stopping_ || !queue_.empty(); }

  void Run() {
    while (true) {
      std::function<void()> work;
      {
        absl::MutexLock lock(&mutex_);
        mutex_.Await(absl::Condition(this, &FileWorkThreads::Ready));
        if (queue_.empty()) return;  // stopping, and all is done
        work = std::move(queue_.front());
        queue_.pop_front();
      }
      work();
    }
  }

  absl::Mutex mutex_;
  std::deque<std::function<void()>> queue_ ABSL_GUARDED_BY(mutex_);
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  std::vector<std::thread> threads_;
};

class RealArtefactFiles final : public ArtefactFiles {
 public:
  absl::Status Check(const v1::ArtefactWritten& written) const override {
    const uint32_t crc32c = written.manifest_crc32c();
    MOE_ASSIGN_OR_RETURN(const artefacts::Manifest manifest,
                         artefacts::ReadManifest(written.path(), &crc32c));
    if (manifest.kind != KindName(written.kind())) {
      return InvalidArgument("{}/manifest.json says kind '{}', the report says '{}'",
                             written.path(), manifest.kind, KindName(written.kind()));
    }
    return artefacts::CheckSizes(written.path(), manifest);
  }

  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) const override {
    if (!FileExists(folder)) return std::vector<std::string>();
    return ListDirectory(folder);
  }

  void Remove(const std::string& folder) const override {
    const absl::Status status = RemoveTree(folder);
    if (!status.ok()) spdlog::warn("cannot remove artefact folder={}: {}", folder, Message(status));
  }

  void RemoveOthers(const std::string& attempt_dir,
                    const std::set<std::string>& keep) const override {
    if (!FileExists(attempt_dir) || keep.contains(attempt_dir)) return;
    if (keep.empty()) {
      Remove(attempt_dir);
      return;
    }
    const absl::StatusOr<std::vector<std::string>> names = ListDirectory(attempt_dir);
    if (!names.ok()) {
      spdlog::warn("cannot tidy up: {}", Message(names.status()));
      return;
    }
    for (const std::string& name : *names) {
      const std::string path = JoinPath(attempt_dir, name);
      if (!keep.contains(path)) Remove(path);
    }
  }
};

}  // namespace

std::unique_ptr<FileWork> MakeFileWork(int threads) {
  return std::make_unique<FileWorkThreads>(threads);
}
std::unique_ptr<ArtefactFiles> MakeArtefactFiles() { return std::make_unique<RealArtefactFiles>(); }

}  // namespace moe::coordinator
