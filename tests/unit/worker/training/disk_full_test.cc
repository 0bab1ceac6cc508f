// A full disk while a checkpoint is written: a real one, a small tmpfs in a mount namespace.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "common/file.h"
#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/worker/training/child_process.h"
#include "tests/unit/worker/training/tiny_run.h"

namespace moe::training {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::SizeIs;

constexpr size_t kDiskBytes = 8 << 20;

// Gives this process a mount namespace and mounts an empty disk of kDiskBytes at `folder`.
bool MountSmallDisk(const std::string& folder) {
  const uid_t user = ::getuid();
  const gid_t group = ::getgid();
  if (::unshare(CLONE_NEWNS) != 0) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0) return false;
    std::ofstream("/proc/self/setgroups") << "deny";
    std::ofstream("/proc/self/uid_map") << "0 " << user << " 1";
    std::ofstream("/proc/self/gid_map") << "0 " << group << " 1";
  }
  return ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
         ::mount("moe-test", folder.c_str(), "tmpfs", 0,
                 ("size=" + std::to_string(kDiskBytes)).c_str()) == 0;
}

// Leaves no room for a checkpoint.
void Fill(const std::string& path) {
  std::ofstream(path) << std::string(kDiskBytes - (256 << 10), 'x');
}

class DiskFullTest : public testing::Test {
 protected:
  DiskFullTest() {
    WriteTinyDataset(folder_.File("dataset"));
    std::filesystem::create_directory(disk_);
    run_.dataset_folder = folder_.File("dataset");
    run_.checkpoint_folder = disk_ + "/j2.1";
    run_.checkpoint_interval_steps = 2;
  }

  const TemporaryFolder folder_;
  const std::string disk_ = folder_.File("disk");
  TinyRun run_;
};

// Makes room as soon as the trainer has noticed.
class CleaningObserver final : public RecordingObserver {
 public:
  explicit CleaningObserver(std::string filler) : filler_(std::move(filler)) {}
  void OnCheckpointFailed(int64_t step, const absl::Status& status) override {
    RecordingObserver::OnCheckpointFailed(step, status);
    std::filesystem::remove(filler_);
  }

 private:
  const std::string filler_;
};

TEST_F(DiskFullTest, Checkpoint_IsReportedAndRemovedAndTheRunGoesOn) {
  const int status = RunInChild([&] {
    if (!MountSmallDisk(disk_)) return kChildSkipped;
    Fill(disk_ + "/filler");
    CleaningObserver observer(disk_ + "/filler");
    const TrainResult result = Train(run_, observer);
    EXPECT_EQ(result.step, 6);
    EXPECT_THAT(observer.steps, SizeIs(6));
    EXPECT_THAT(observer.failures,
                ElementsAre(testing::AllOf(HasSubstr("step 2: RESOURCE_EXHAUSTED"),
                                           HasSubstr(run_.checkpoint_folder))));
    EXPECT_THAT(observer.checkpoints, SizeIs(2)) << "after steps 4 and 6";
    EXPECT_THAT(*ListDirectory(run_.checkpoint_folder),
                ElementsAre("step-00000004", "step-00000006"));
    return 0;
  });
  if (WIFEXITED(status) && WEXITSTATUS(status) == kChildSkipped) {
    GTEST_SKIP() << "needs CAP_SYS_ADMIN or unprivileged user namespaces to mount a small disk";
  }
  EXPECT_EQ(status, 0);
}

TEST_F(DiskFullTest, LastCheckpoint_EndsTheRunWithAStorageError) {
  const int status = RunInChild([&] {
    if (!MountSmallDisk(disk_)) return kChildSkipped;
    Fill(disk_ + "/filler");
    run_.checkpoint_interval_steps = 100;
    RecordingObserver observer;
    try {
      Train(run_, observer);
      ADD_FAILURE() << "no error";
    } catch (const CheckpointError& error) {
      EXPECT_EQ(error.status().code(), absl::StatusCode::kResourceExhausted);
    }
    EXPECT_THAT(observer.failures, SizeIs(1));
    EXPECT_THAT(observer.checkpoints, IsEmpty());
    EXPECT_THAT(*ListDirectory(run_.checkpoint_folder), IsEmpty());
    return 0;
  });
  if (WIFEXITED(status) && WEXITSTATUS(status) == kChildSkipped) {
    GTEST_SKIP() << "needs CAP_SYS_ADMIN or unprivileged user namespaces to mount a small disk";
  }
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace moe::training
