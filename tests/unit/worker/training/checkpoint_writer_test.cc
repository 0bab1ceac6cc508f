#include "worker/training/checkpoint_writer.h"

#include <ATen/ops/full.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "absl/time/time.h"
#include "common/file.h"
#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/worker/parallel/run_ranks.h"
#include "tests/unit/worker/training/tiny_run.h"
#include "worker/parallel/single_rank.h"
#include "worker/training/checkpoint_reader.h"

namespace moe::training {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

constexpr int64_t kTimeoutMs = 60'000;

class CheckpointWriterTest : public testing::Test {
 protected:
  CheckpointOptions Options() const {
    return {.folder = folder_.File("j2.1"),
            .name = "tiny-trained",
            .job_id = "j2",
            .attempt = 1,
            .inputs = {"tiny:1"},
            .tokenizer_folder = folder_.File("model")};
  }
  static Progress ProgressAt(int64_t step) {
    return {.step = step, .data_cursor = {.next_index = 8 * step, .domain_samples = {8 * step}}};
  }

  WrittenCheckpoint SaveOne() const {
    parallel::SingleRankCommunicator communicator;
    WrittenCheckpoint written;
    CheckpointWriter writer(
        Options(), TinyMoe(), layout_, communicator,
        {.on_written = [&](const WrittenCheckpoint& checkpoint) { written = checkpoint; },
         .on_failed = [](int64_t, const absl::Status&) {}});
    writer.Save(ProgressAt(1), parameters_, exp_avg_, exp_avg_sq_);
    EXPECT_TRUE(writer.Wait().ok());
    return written;
  }

  const TemporaryFolder folder_;
  const model::ParameterLayout layout_{TinyMoe()};
  const int64_t numel_ = layout_.arena_numel();
  const at::Tensor parameters_ = at::full({numel_}, 1.0f, at::kFloat);
  const at::Tensor exp_avg_ = at::full({numel_}, 2.0f, at::kFloat);
  const at::Tensor exp_avg_sq_ = at::full({numel_}, 3.0f, at::kFloat);
};

// A writer that wrote on the caller's thread would wait here for ever.
TEST_F(CheckpointWriterTest, Save_ReturnsWhileTheWriteIsInFlight) {
  parallel::SingleRankCommunicator communicator;
  absl::Mutex mutex;
  bool saved = false, in_time = false;
  CheckpointWriter writer(Options(), TinyMoe(), layout_, communicator,
                          {.on_written =
                               [&](const WrittenCheckpoint&) {
                                 absl::MutexLock lock(&mutex);
                                 in_time = mutex.AwaitWithTimeout(absl::Condition(&saved),
                                                                  absl::Seconds(30));
                               },
                           .on_failed = [](int64_t, const absl::Status&) {}});
  writer.Save(ProgressAt(1), parameters_, exp_avg_, exp_avg_sq_);
  {
    absl::MutexLock lock(&mutex);
    saved = true;
  }
  EXPECT_TRUE(writer.Wait().ok());
  EXPECT_TRUE(in_time);
}

TEST_F(CheckpointWriterTest, Save_StateChangedAfterwards_WritesWhatItWas) {
  folder_.Write("model/tokenizer.json", "{}");
  parallel::SingleRankCommunicator communicator;
  std::vector<WrittenCheckpoint> written;
  CheckpointWriter writer(
      Options(), TinyMoe(), layout_, communicator,
      {.on_written = [&](const WrittenCheckpoint& checkpoint) { written.push_back(checkpoint); },
       .on_failed = [](int64_t,
                       const absl::Status& status) { ADD_FAILURE() << ToString(status); }});
  at::Tensor parameters = parameters_.clone();
  writer.Save(ProgressAt(1), parameters, exp_avg_, exp_avg_sq_);
  parameters.fill_(9.0f);
  writer.Save(ProgressAt(2), parameters, exp_avg_, exp_avg_sq_);
  ASSERT_TRUE(writer.Wait().ok());
  ASSERT_EQ(written.size(), 2u);

  const auto first =
      LoadCheckpoint(written[0].path, written[0].manifest_crc32c, layout_, {{64, 128}});
  ASSERT_TRUE(first.ok()) << first.status();
  EXPECT_TRUE(first->parameters.equal(parameters_));
  EXPECT_TRUE(first->exp_avg.equal(exp_avg_.narrow(0, 64, 64)));
  EXPECT_TRUE(first->exp_avg_sq.equal(exp_avg_sq_.narrow(0, 64, 64)));
  EXPECT_EQ(first->progress.step, 1);
  EXPECT_THAT(first->progress.data_cursor.domain_samples, ElementsAre(8));

  const WrittenCheckpoint& second = written[1];
  EXPECT_EQ(second.step, 2);
  EXPECT_EQ(second.path, folder_.File("j2.1") + "/step-00000002");
  EXPECT_EQ(second.metadata.at("step"), 2);
  EXPECT_EQ(second.metadata.at("vocab_size"), TinyMoe().vocab_size);
  EXPECT_TRUE(second.metadata.contains("tokenizer_crc32c"));
  EXPECT_THAT(*ListDirectory(second.path),
              ElementsAre("config.json", "manifest.json", "progress.json",
                          "state-00000-of-00001.safetensors", "tokenizer.json"));
}

TEST_F(CheckpointWriterTest, Load_ModelOfAnotherSize_IsInvalidArgument) {
  const WrittenCheckpoint written = SaveOne();
  artefacts::ModelConfig larger = TinyMoe();
  larger.vocab_size += 1;
  const auto state = LoadCheckpoint(written.path, written.manifest_crc32c,
                                    model::ParameterLayout(larger), {{0, 64}});
  EXPECT_EQ(state.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(state.status()), HasSubstr("another model"));
}

// Wherever a byte is wrong: in the header, which then may make no sense, or among the numbers.
TEST_F(CheckpointWriterTest, Load_DamagedFile_IsDataLoss) {
  const WrittenCheckpoint written = SaveOne();
  const auto load = [&] {
    return LoadCheckpoint(written.path, written.manifest_crc32c, layout_, {{0, numel_}}).status();
  };
  const std::string state = written.path + "/state-00000-of-00001.safetensors";
  const std::string whole = *ReadFile(state);
  for (const size_t place : {size_t{0}, size_t{8}, size_t{40}, size_t{4096}, whole.size() - 1}) {
    std::string damaged = whole;
    damaged[place] ^= 0x20;
    ASSERT_TRUE(WriteFileAtomically(state, damaged).ok());
    EXPECT_EQ(load().code(), absl::StatusCode::kDataLoss) << place;
    EXPECT_THAT(Message(load()), HasSubstr(state)) << place;
  }
  ASSERT_TRUE(WriteFileAtomically(state, whole.substr(0, whole.size() - 1)).ok());
  EXPECT_EQ(load().code(), absl::StatusCode::kDataLoss) << "cut";
  ASSERT_TRUE(WriteFileAtomically(state, whole).ok());
  EXPECT_TRUE(load().ok());
  for (const char* name : {"progress.json", "manifest.json"}) {
    const std::string path = JoinPath(written.path, name);
    const std::string text = *ReadFile(path);
    ASSERT_TRUE(WriteFileAtomically(path, text.substr(0, text.size() - 1) + " ").ok());
    EXPECT_EQ(load().code(), absl::StatusCode::kDataLoss) << name;
    ASSERT_TRUE(WriteFileAtomically(path, text).ok());
  }
  ASSERT_TRUE(RemoveTree(state).ok());
  EXPECT_EQ(load().code(), absl::StatusCode::kNotFound);
}

// What one rank cannot write, no rank has written.
TEST_F(CheckpointWriterTest, OneRankFails_AllLearnItAndNothingIsLeft) {
  const std::string blocked = folder_.Write("a-file", "not a folder");
  absl::Mutex mutex;
  std::vector<std::string> failures;
  parallel::RunRanks(2, kTimeoutMs, [&](parallel::Communicator& communicator) {
    CheckpointOptions options = Options();
    if (communicator.rank() == 1) options.folder = blocked;
    const parallel::Range own =
        parallel::OwnedRange(numel_, communicator.rank(), communicator.world_size());
    CheckpointWriter writer(
        options, TinyMoe(), layout_, communicator,
        {.on_written = [](const WrittenCheckpoint&) { ADD_FAILURE() << "half a checkpoint"; },
         .on_failed =
             [&](int64_t step, const absl::Status& status) {
               absl::MutexLock lock(&mutex);
               failures.push_back(fmt::format("step {}: {}", step, Message(status)));
             }});
    writer.Save(ProgressAt(5), parameters_, exp_avg_.narrow(0, 0, own.numel()),
                exp_avg_sq_.narrow(0, 0, own.numel()));
    const absl::Status status = writer.Wait();
    EXPECT_FALSE(status.ok());
    EXPECT_THAT(Message(status), HasSubstr("rank 1"));
  });
  EXPECT_THAT(failures, ElementsAre(AllOf(HasSubstr("step 5"), HasSubstr("rank 1"))));
  EXPECT_THAT(*ListDirectory(folder_.File("j2.1")), IsEmpty());
}

}  // namespace
}  // namespace moe::training
