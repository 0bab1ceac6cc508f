// Conversations through PrepareDataset.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>

#include "common/file.h"
#include "common/status.h"
#include "sampler/dataset.h"
#include "sampler/prepare.h"
#include "sampler/target_mask.h"
#include "sampler/tokenizer/tokenizer.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::sampler {
namespace {

using testing::HasSubstr;

class Observer final : public PrepareObserver {
 public:
  void OnProgress(const PrepareProgress& progress) override { last = progress; }
  bool StopRequested() override { return false; }
  PrepareProgress last;
};

class PrepareConversationsTest : public testing::Test {
 protected:
  PrepareConversationsTest() {
    const char* source = std::getenv("MOE_SOURCE_DIR");
    MOE_CHECK(source != nullptr);  // set by ctest
    spec_.tokenizer_path = std::string(source) + "/tests/unit/sampler/testdata/tokenizer.json";
    spec_.domains = {{"chat", {folder_.File("chat.jsonl")}}};
    spec_.heldout_fraction = 0.2;
    spec_.conversations = ConversationOptions{.chat_template = "chatml", .max_tokens = 256};
    for (int i = 0; i < 40; ++i) Add(Question(i), Answer(i));
  }

  static std::string Question(int i) { return "What is " + std::to_string(i) + "?"; }
  static std::string Answer(int i) { return "It is number " + std::to_string(i) + "."; }
  void Add(const std::string& question, const std::string& answer) {
    AddLine(Json{
        {"messages",
         {{{"role", "user"}, {"content", question}}, {{"role", "assistant"}, {"content", answer}}}}}
                .dump());
  }
  void AddLine(const std::string& line) {
    std::ofstream(folder_.File("chat.jsonl"), std::ios::app) << line << "\n";
  }
  absl::StatusOr<PreparedDataset> Prepare(const std::string& name, int threads = 1) {
    return PrepareDataset(spec_,
                          {.folder = folder_.File(name),
                           .work_folder = folder_.File(name + ".unfinished"),
                           .name = "chat",
                           .job_id = "j1",
                           .attempt = 1,
                           .inputs = {"t"}},
                          {.threads = threads}, observer_);
  }

  const TemporaryFolder folder_;
  PrepareSpec spec_;
  Observer observer_;
};

TEST_F(PrepareConversationsTest, EachConversation_IsASampleWhoseAnswerCounts) {
  const auto prepared = Prepare("out");
  ASSERT_TRUE(prepared.ok()) << ToString(prepared.status());
  const auto dataset = Dataset::Open(folder_.File("out"));
  ASSERT_TRUE(dataset.ok()) << ToString(dataset.status());
  ASSERT_TRUE((*dataset)->has_conversations());
  const auto tokenizer = OpenTokenizer(folder_.File("out"));
  ASSERT_TRUE(tokenizer.ok());

  int found = 0;
  for (const Split split : {Split::kTrain, Split::kHeldout}) {
    EXPECT_GT((*dataset)->NumSamples(split, 0, 256), 0);
    for (int64_t i = 0; i < (*dataset)->NumSamples(split, 0, 256); ++i) {
      const int64_t length = (*dataset)->SampleLength(split, 0, i, 256);
      std::vector<int64_t> tokens(length), targets(length);
      (*dataset)->ReadSample(split, 0, i, 256, tokens.data(), targets.data());
      std::vector<int32_t> answer;
      for (int64_t t = 0; t < length; ++t) {
        if (targets[t] < 0) continue;
        ASSERT_EQ(targets[t], tokens[t + 1]);
        answer.push_back(static_cast<int32_t>(targets[t]));
      }
      EXPECT_EQ((*dataset)->NumTargets(split, 0, i, 256), std::ssize(answer));
      const std::string text =
          (*tokenizer)->Decode(std::vector<int32_t>(tokens.begin(), tokens.end()));
      const std::string said = (*tokenizer)->Decode(answer);
      for (int n = 0; n < 40; ++n) {
        if (text.find(Question(n)) == std::string::npos) continue;
        EXPECT_EQ(said, Answer(n) + "<|im_end|>");
        ++found;
      }
    }
  }
  EXPECT_EQ(found, 40);
}

TEST_F(PrepareConversationsTest, NumberOfThreads_DoesNotMatter) {
  const auto one = Prepare("one", 1), three = Prepare("three", 3);
  ASSERT_TRUE(one.ok() && three.ok());
  for (const char* file : {"train/chat.tokens", "train/chat.targets", "heldout/chat.targets"}) {
    EXPECT_EQ(ReadFile(JoinPath(folder_.File("one"), file)).value(),
              ReadFile(JoinPath(folder_.File("three"), file)).value());
  }
}

TEST_F(PrepareConversationsTest, LongConversation_LosesItsEnd) {
  spec_.conversations->max_tokens = 24;
  const auto prepared = Prepare("out");
  ASSERT_TRUE(prepared.ok()) << ToString(prepared.status());
  const auto dataset = Dataset::Open(folder_.File("out"));
  ASSERT_TRUE(dataset.ok());
  for (int64_t i = 0; i < (*dataset)->NumSamples(Split::kTrain, 0, 256); ++i) {
    EXPECT_LE((*dataset)->SampleLength(Split::kTrain, 0, i, 256), 24);
    EXPECT_GT((*dataset)->NumTargets(Split::kTrain, 0, i, 256), 0);
  }
  const Json card = ReadJsonFile(folder_.File("out/card.json")).value();
  EXPECT_GT(card["domains"][0]["cut"].get<int>(), 0);
}

TEST_F(PrepareConversationsTest, LinesThatAreNone_AreCountedOrEndTheJob) {
  AddLine("{\"text\": \"no conversation\"}");
  AddLine("broken");
  const auto prepared = Prepare("out");
  ASSERT_TRUE(prepared.ok()) << ToString(prepared.status());
  const Json card = ReadJsonFile(folder_.File("out/card.json")).value();
  EXPECT_EQ(card["domains"][0]["skipped"]["bad_json"], 2);
  EXPECT_THAT(card["domains"][0]["skipped_examples"][0].get<std::string>(),
              HasSubstr("chat.jsonl:41: there is no list of turns"));

  spec_.on_bad_document = OnBadDocument::kFail;
  EXPECT_THAT(ToString(Prepare("failed").status()), HasSubstr("chat.jsonl:41"));
  EXPECT_FALSE(FileExists(folder_.File("failed/manifest.json")));
}

TEST_F(PrepareConversationsTest, WhatIsNoFileOfLines_IsNamed) {
  std::ofstream(folder_.File("plain.txt")) << "text";
  spec_.domains = {{"chat", {folder_.File("plain.txt")}}};
  EXPECT_THAT(ToString(Prepare("out").status()), HasSubstr("plain.txt: not a file of JSON lines"));
}

TEST_F(PrepareConversationsTest, DamagedMask_IsRefused) {
  ASSERT_TRUE(Prepare("out").ok());
  const std::string path = folder_.File("out/train/chat.targets");
  std::string content = ReadFile(path).value();
  content[30] ^= 1;
  std::ofstream(path, std::ios::binary) << content;
  EXPECT_THAT(ToString(Dataset::Open(folder_.File("out")).status()),
              testing::AllOf(HasSubstr("DATA_LOSS"), HasSubstr("chat.targets")));
  std::ofstream(path, std::ios::binary) << content.substr(0, 20);
  EXPECT_THAT(ToString(TargetMask::Open(path).status()), HasSubstr("20 bytes"));
}

}  // namespace
}  // namespace moe::sampler
