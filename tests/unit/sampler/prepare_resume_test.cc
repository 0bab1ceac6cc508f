// A prepare process that is killed at any moment is gone on with to the very same dataset. Every
// run is a process of its own, ended by SIGKILL at a named point.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>

#include "common/file.h"
#include "common/philox.h"
#include "common/status.h"
#include "sampler/prepare.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::sampler {
namespace {

using testing::HasSubstr;

class Observer final : public PrepareObserver {
 public:
  explicit Observer(std::string log) : log_(std::move(log)) {}
  void OnProgress(const PrepareProgress& progress) override { last = progress; }
  void OnResume(const PrepareProgress& progress) override {
    std::ofstream(log_, std::ios::app) << "resume " << progress.documents << "\n";
  }
  void OnRestart(const std::string& why) override {
    std::ofstream(log_, std::ios::app) << "restart " << why << "\n";
  }
  bool StopRequested() override { return false; }
  PrepareProgress last;

 private:
  const std::string log_;
};

class PrepareResumeTest : public testing::Test {
 protected:
  PrepareResumeTest() {
    spec_.tokenizer_path =
        std::string(std::getenv("MOE_SOURCE_DIR")) + "/tests/unit/sampler/testdata/tokenizer.json";
    for (const std::string domain : {"c4", "github"}) {
      std::ofstream file(folder_.File(domain + ".jsonl"));
      for (int i = 0; i < 120; ++i) {
        // Some broken, some twice, some almost twice.
        if (i % 17 == 3) file << "no json\n";
        const int number = i % 10 == 9 ? i - 5 : i;
        std::string text = "Document of " + domain;
        for (int k = 0; k < 40; ++k) {
          text += " " + std::to_string(Philox(static_cast<uint64_t>(number), RandomStream::kTest,
                                              domain.size(), static_cast<uint64_t>(k))[0] %
                                       1000);
        }
        if (i % 20 == 19) text += " more";
        file << Json{{"text", text}}.dump() << "\n";
      }
      spec_.domains.push_back({domain, {folder_.File(domain + ".jsonl")}});
    }
    spec_.remove_duplicates = true;
    spec_.near_duplicate_similarity = 0.8;
    spec_.filters = {{.score = "fluency", .drop = 0.2, .domains = {"c4"}}};
  }

  // Prepares into `name` in a child process. 0: finished; else the signal or 1000 for an error.
  int Run(const std::string& name, const std::string& crash_at = "") {
    std::filesystem::remove_all(folder_.File(name));
    const pid_t child = ::fork();
    if (child == 0) {
      if (!crash_at.empty()) ::setenv("MOE_UNSAFE_CRASH_AT", crash_at.c_str(), 1);
      Observer observer(folder_.File("log"));
      const auto result =
          PrepareDataset(spec_,
                         {.folder = folder_.File(name),
                          .work_folder = folder_.File("work"),
                          .name = "corpus",
                          .job_id = "j1",
                          .attempt = 1},
                         {.threads = 2, .batch_bytes = 1500, .checkpoint_bytes = 3000}, observer);
      if (!result.ok()) {
        std::ofstream(folder_.File("error")) << Message(result.status());
        // The disk may be what failed.
        std::cerr << name << ": " << Message(result.status()) << std::endl;
      }
      const PrepareProgress& last = observer.last;
      const bool complete = result.ok() && last.bytes == last.total_bytes;
      if (result.ok() && !complete) {
        std::cerr << name << ": finished at " << last.bytes << " of " << last.total_bytes
                  << std::endl;
      }
      ::_exit(complete ? 0 : 100);
    }
    int status = 0;
    EXPECT_EQ(::waitpid(child, &status, 0), child);
    return WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status) == 0 ? 0 : 1000;
  }
  // Ends a process at every moment of these kinds, each in work of its own, and goes on; returns
  // how many there were.
  int KillEverywhere(const std::vector<const char*>& points) {
    EXPECT_EQ(Run("golden"), 0) << Error();
    const std::string golden = Manifest("golden");
    int kills = 0;
    for (const std::string point : points) {
      for (int count = 1;; ++count) {
        ForgetWork();
        const std::string at = point + ":" + std::to_string(count);
        const int ended = Run("out", at);
        if (ended == 0) {
          EXPECT_GT(count, 1) << point << " was never reached";
          break;
        }
        EXPECT_EQ(ended, SIGKILL) << Error();
        if (ended != SIGKILL) return kills;
        ++kills;
        EXPECT_FALSE(FileExists(folder_.File("out/manifest.json")));
        EXPECT_EQ(Run("out"), 0) << at << ": " << Error();
        EXPECT_EQ(Manifest("out"), golden) << "killed at " << at;
      }
    }
    EXPECT_THAT(Log(), testing::AllOf(HasSubstr("resume"), testing::Not(HasSubstr("restart"))));
    return kills;
  }
  // Two domains of conversations instead of text; with some broken and some twice, also across
  // domains.
  void TalkInstead() {
    spec_.domains.clear();
    spec_.near_duplicate_similarity.reset();
    spec_.filters.clear();
    spec_.conversations = ConversationOptions{.chat_template = "chatml", .max_tokens = 40};
    for (const std::string domain : {"chat", "code"}) {
      std::ofstream file(folder_.File(domain + ".jsonl"));
      for (int i = 0; i < 60; ++i) {
        if (i % 17 == 3) file << "no json in " << domain << i << "\n";
        const std::string number = std::to_string(i % 10 == 9 ? i - 5 : i);
        const std::string question = "What is " + number + "?";
        // Those of multiples of 7 are the same in both domains; some are too long.
        const std::string answer = i % 7 == 0    ? "It is " + number + "."
                                   : i % 13 == 5 ? domain + std::string(200, 'x')
                                                 : domain + " says " + number + ".";
        file << Json{{"messages",
                      {{{"role", "user"}, {"content", question}},
                       {{"role", "assistant"}, {"content", answer}}}}}
                    .dump()
             << "\n";
      }
      spec_.domains.push_back({domain, {folder_.File(domain + ".jsonl")}});
    }
  }
  void ForgetWork() { std::filesystem::remove_all(folder_.File("work")); }
  std::string Manifest(const std::string& name) {
    return *ReadFile(folder_.File(name + "/manifest.json"));
  }
  std::string Log() {
    return FileExists(folder_.File("log")) ? *ReadFile(folder_.File("log")) : "";
  }
  std::string Error() {
    return FileExists(folder_.File("error")) ? *ReadFile(folder_.File("error")) : "";
  }

  TemporaryFolder folder_;
  PrepareSpec spec_;
};

TEST_F(PrepareResumeTest, KilledAtAnyMoment_EndsInTheSameDataset) {
  EXPECT_GT(KillEverywhere({"prepare_batch", "prepare_synced", "prepare_saved", "prepare_filtered",
                            "prepare_linked"}),
            50);
}

TEST_F(PrepareResumeTest, ConversationsKilledAtAnyMoment_EndInTheSameDataset) {
  TalkInstead();
  EXPECT_GE(KillEverywhere({"prepare_batch", "prepare_synced", "prepare_saved", "prepare_linked"}),
            20);
  const Json card = *ReadJsonFile(folder_.File("out/card.json"));
  for (const Json& domain : card.at("domains")) {
    EXPECT_GT(domain.at("cut"), 0) << domain.dump(1);
    EXPECT_GT(domain.at("skipped").at("bad_json"), 0) << domain.dump(1);
    EXPECT_GT(domain.at("skipped").at("duplicate"), 0) << domain.dump(1);
  }
}

// The last conversation changes sides, and the process dies in between.
TEST_F(PrepareResumeTest, ConversationsOfOneSideKilledAtAnyMoment_EndInTheSameDataset) {
  TalkInstead();
  spec_.heldout_fraction = 0;
  EXPECT_GT(KillEverywhere({"prepare_synced", "prepare_saved", "prepare_linked"}), 10);
  const Json card = *ReadJsonFile(folder_.File("out/card.json"));
  EXPECT_EQ(card.at("domains")[0].at("heldout_documents"), 1);
  EXPECT_GT(card.at("domains")[0].at("heldout_targets"), 0);
}

TEST_F(PrepareResumeTest, MaskBehindTheLastSync_DoesNotCount) {
  TalkInstead();
  ASSERT_EQ(Run("golden"), 0) << Error();
  ForgetWork();
  ASSERT_EQ(Run("out", "prepare_saved:2"), SIGKILL);
  std::ofstream(folder_.File("work/train/chat.targets.flags"), std::ios::app)
      << std::string(100, '\1');
  ASSERT_EQ(Run("out"), 0) << Error();
  EXPECT_EQ(Manifest("out"), Manifest("golden"));
  EXPECT_FALSE(FileExists(folder_.File("work/train/chat.targets.flags")));

  ForgetWork();
  ASSERT_EQ(Run("out", "prepare_saved:2"), SIGKILL);
  std::filesystem::resize_file(folder_.File("work/train/chat.targets.flags"), 1);
  ASSERT_EQ(Run("out"), 0) << Error();
  EXPECT_THAT(Log(), HasSubstr("restart"));
  EXPECT_EQ(Manifest("out"), Manifest("golden"));
}

TEST_F(PrepareResumeTest, OtherChatTemplate_IsNotGoneOnWith) {
  TalkInstead();
  ASSERT_EQ(Run("out", "prepare_saved:2"), SIGKILL);
  spec_.conversations->max_tokens = 50;
  ASSERT_EQ(Run("out"), 0) << Error();
  EXPECT_THAT(Log(), HasSubstr("restart"));
}

TEST_F(PrepareResumeTest, KilledAgainAndAgain_EndsInTheSameDataset) {
  ASSERT_EQ(Run("golden"), 0) << Error();
  ForgetWork();
  // Always at the second save: each process gets one step further.
  int kills = 0;
  while (Run("out", "prepare_saved:2") == SIGKILL) ASSERT_LT(++kills, 200);
  EXPECT_GT(kills, 5);
  EXPECT_EQ(Manifest("out"), Manifest("golden")) << Error();
}

// What a power cut leaves behind the last sync may be anything.
TEST_F(PrepareResumeTest, BytesBehindTheLastSync_DoNotCount) {
  ASSERT_EQ(Run("golden"), 0) << Error();
  ForgetWork();
  ASSERT_EQ(Run("out", "prepare_saved:7"), SIGKILL);
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder_.File("work"))) {
    if (!entry.is_regular_file() || entry.path().filename() == "progress.json") continue;
    std::ofstream(entry.path(), std::ios::app | std::ios::binary) << std::string(1000, '\x5a');
  }
  ASSERT_EQ(Run("out"), 0) << Error();
  EXPECT_EQ(Manifest("out"), Manifest("golden"));
  EXPECT_THAT(Log(), HasSubstr("resume"));
}

TEST_F(PrepareResumeTest, WorkOfOtherText_IsNotGoneOnWith) {
  ASSERT_EQ(Run("out", "prepare_saved:5"), SIGKILL);
  std::ofstream(folder_.File("github.jsonl"), std::ios::app)
      << Json{{"text", "new"}}.dump() << "\n";
  ASSERT_EQ(Run("out"), 0) << Error();
  EXPECT_THAT(Log(), HasSubstr("restart the text"));
  ForgetWork();
  ASSERT_EQ(Run("golden"), 0);
  EXPECT_EQ(Manifest("out"), Manifest("golden"));
}

TEST_F(PrepareResumeTest, WorkThatLostWhatWasSynced_IsStartedOver) {
  ASSERT_EQ(Run("golden"), 0);
  ForgetWork();
  ASSERT_EQ(Run("out", "prepare_saved:7"), SIGKILL);
  std::filesystem::resize_file(folder_.File("work/documents/c4.documents"), 40);
  ASSERT_EQ(Run("out"), 0) << Error();
  EXPECT_THAT(Log(), HasSubstr("restart"));
  EXPECT_EQ(Manifest("out"), Manifest("golden"));
}

TEST_F(PrepareResumeTest, DamagedProgress_IsStartedOver) {
  ASSERT_EQ(Run("golden"), 0);
  ForgetWork();
  ASSERT_EQ(Run("out", "prepare_saved:4"), SIGKILL);
  folder_.Write("work/progress.json", "{\"format\": \"moe-prep");
  ASSERT_EQ(Run("out"), 0) << Error();
  EXPECT_THAT(Log(), HasSubstr("restart"));
  EXPECT_EQ(Manifest("out"), Manifest("golden"));
}

// Moved thresholds, known scores: the same dataset as if everything were scored again.
TEST_F(PrepareResumeTest, ScoresFromAnEarlierDataset_GiveTheSameText) {
  ASSERT_EQ(Run("first"), 0) << Error();
  ForgetWork();
  spec_.filters[0].drop = 0.4;
  ASSERT_EQ(Run("scored"), 0) << Error();
  ForgetWork();
  spec_.scores_from = folder_.File("first");
  ASSERT_EQ(Run("known"), 0) << Error();
  EXPECT_EQ(Manifest("known"), Manifest("scored"));
  EXPECT_NE(Manifest("known"), Manifest("first"));
  folder_.Write("nothing/x", "");
  spec_.scores_from = folder_.File("nothing");
  EXPECT_EQ(Run("none"), 1000);
  EXPECT_THAT(Error(), HasSubstr("has no records"));
}

}  // namespace
}  // namespace moe::sampler
