// A run that is killed at any moment and resumed reports the same numbers, to the bit, as one that
// nobody disturbed.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <csignal>
#include <cstdlib>
#include <fstream>
#include <map>
#include <optional>
#include <string>

#include "common/file.h"
#include "common/json.h"
#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/worker/training/child_process.h"
#include "tests/unit/worker/training/tiny_run.h"

namespace moe::training {
namespace {

// Keeps reports in a file, which survives the process, as the run folder does.
class JournalObserver final : public RecordingObserver {
 public:
  explicit JournalObserver(const std::string& path) : file_(path, std::ios::app) {}
  void OnStep(const StepReport& report) override {
    Append({{"step", report.step}, {"fingerprint", Fingerprint(report)}});
  }
  void OnCheckpoint(const WrittenCheckpoint& checkpoint) override {
    Append({{"checkpoint", checkpoint.path}, {"crc32c", checkpoint.manifest_crc32c}});
  }

 private:
  void Append(const Json& line) {
    absl::MutexLock lock(&mutex_);
    file_ << line.dump() << std::endl;
  }
  absl::Mutex mutex_;
  std::ofstream file_;
};

struct Journal {
  std::map<int64_t, std::string> steps;
  std::optional<WrittenCheckpoint> last_checkpoint;
};

Journal ReadJournal(const std::string& path) {
  Journal journal;
  std::ifstream file(path);
  for (std::string line; std::getline(file, line);) {
    const Json json = Json::parse(line);
    if (json.contains("step")) {
      journal.steps[json["step"]] = json["fingerprint"];
    } else {
      journal.last_checkpoint.emplace();
      journal.last_checkpoint->path = json["checkpoint"];
      journal.last_checkpoint->manifest_crc32c = json["crc32c"];
    }
  }
  return journal;
}

class CrashTest : public testing::TestWithParam<const char*> {
 protected:
  CrashTest() {
    WriteTinyDataset(folder_.File("dataset"));
    run_.dataset_folder = folder_.File("dataset");
    run_.checkpoint_interval_steps = 2;
    run_.compute = model::ComputeType::kBf16;
  }

  // Trains as attempt `name` in a child and returns how that ended.
  int Attempt(const std::string& name, const char* crash_at) {
    run_.checkpoint_folder = folder_.File(name);
    return RunInChild([&] {
      if (crash_at != nullptr) ::setenv("MOE_UNSAFE_CRASH_AT", crash_at, 1);
      JournalObserver observer(folder_.File(name + ".jsonl"));
      Train(run_, observer);
      return 0;
    });
  }
  Journal JournalOf(const std::string& name) const {
    return ReadJournal(folder_.File(name + ".jsonl"));
  }

  const TemporaryFolder folder_;
  TinyRun run_;
};

// "point:n": the n-th time. Steps 1 to 6, checkpoints after 2, 4 and 6, three tensors in each.
INSTANTIATE_TEST_SUITE_P(Points, CrashTest,
                         testing::Values("step_begin:1", "step_begin:4", "after_backward:4",
                                         "after_optimizer:4", "after_report:4",
                                         "checkpoint_before_shard:2", "checkpoint_mid_shard:2",
                                         "checkpoint_before_manifest:2",
                                         "checkpoint_after_manifest:2", "checkpoint_after_report:2",
                                         "checkpoint_after_manifest:3"));

TEST_P(CrashTest, KilledAndResumed_ReportsTheBitsOfAnUndisturbedRun) {
  ASSERT_EQ(Attempt("undisturbed", nullptr), 0);
  const Journal expected = JournalOf("undisturbed");
  ASSERT_EQ(expected.steps.size(), 6u);

  const int killed = Attempt("killed", GetParam());
  ASSERT_TRUE(WIFSIGNALED(killed) && WTERMSIG(killed) == SIGKILL) << "status " << killed;
  const Journal before = JournalOf("killed");
  run_.resume = before.last_checkpoint;
  ASSERT_EQ(Attempt("resumed", nullptr), 0);
  const Journal after = JournalOf("resumed");

  std::map<int64_t, std::string> both = before.steps;
  for (const auto& [step, fingerprint] : after.steps) {
    const auto [it, is_new] = both.emplace(step, fingerprint);
    EXPECT_EQ(it->second, fingerprint) << "step " << step << " was done twice, differently";
  }
  EXPECT_EQ(both, expected.steps);
}

TEST_P(CrashTest, Killed_EveryFolderWithAManifestIsComplete) {
  ASSERT_NE(Attempt("killed", GetParam()), 0);
  const int status = RunInChild([&] {
    const auto names = ListDirectory(run_.checkpoint_folder);
    if (!names.ok()) return 0;  // killed before the first checkpoint
    for (const std::string& name : *names) {
      const std::string checkpoint = JoinPath(run_.checkpoint_folder, name);
      if (!FileExists(JoinPath(checkpoint, "manifest.json"))) continue;
      const auto manifest = artefacts::ReadManifest(checkpoint, nullptr);
      EXPECT_TRUE(manifest.ok());
      if (manifest.ok()) {
        EXPECT_TRUE(artefacts::VerifyFiles(checkpoint, *manifest).ok()) << checkpoint;
      }
    }
    return 0;
  });
  EXPECT_EQ(status, 0);
}

}  // namespace
}  // namespace moe::training
