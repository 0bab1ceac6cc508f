#include "worker/daemon/relay.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "common/run_channel.h"
#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::worker {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr size_t kPlenty = size_t{1} << 20;

class ReportRelayTest : public ::testing::Test {
 protected:
  void Append(const std::string& text) {
    FileDescriptor fd(::open(path_.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644));
    ASSERT_TRUE(WriteAll(fd.get(), text.data(), text.size(), path_).ok());
  }
  static std::string Line(int64_t seq) {
    return fmt::format("{{\"seq\":{},\"progress\":{{\"done\":\"{}\"}}}}\n", seq, seq);
  }
  void AppendReports(int64_t from, int64_t to) {
    std::string text;
    for (int64_t seq = from; seq <= to; ++seq) text += Line(seq);
    Append(text);
  }
  std::vector<int64_t> Read(size_t max_bytes = kPlenty) {
    const auto reports = relay_.Read(max_bytes);
    EXPECT_TRUE(reports.ok()) << reports.status();
    std::vector<int64_t> seqs;
    for (const v1::RankReport& report : *reports) {
      EXPECT_EQ(report.progress().done(), report.seq());
      seqs.push_back(report.seq());
    }
    return seqs;
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_.File("reports.jsonl");
  ReportRelay relay_{path_};
};

TEST_F(ReportRelayTest, NoFileYet_IsNothingYet) {
  EXPECT_THAT(Read(), IsEmpty());
  AppendReports(1, 2);
  EXPECT_THAT(Read(), ElementsAre(1, 2));
  EXPECT_THAT(Read(), IsEmpty());
}

TEST_F(ReportRelayTest, LineWithoutItsEnd_IsReadOnceItIsWhole) {
  const std::string second = Line(2);
  Append(Line(1) + second.substr(0, 10));
  EXPECT_THAT(Read(), ElementsAre(1));
  EXPECT_THAT(Read(), IsEmpty());
  Append(second.substr(10));
  EXPECT_THAT(Read(), ElementsAre(2));
}

TEST_F(ReportRelayTest, Batches_AreBoundedAndMissNothing) {
  AppendReports(1, 10'000);
  int64_t next = 1;
  int batches = 0;
  for (auto seqs = Read(1000); !seqs.empty(); seqs = Read(1000), ++batches) {
    EXPECT_LE(seqs.size(), 40);
    for (const int64_t seq : seqs) ASSERT_EQ(seq, next++);
  }
  EXPECT_EQ(next, 10'001);
  EXPECT_GT(batches, 250);
}

TEST_F(ReportRelayTest, Rewind_GoesBackToTheCursorFromAnywhere) {
  AppendReports(1, 100);
  while (!Read(200).empty()) {
  }
  relay_.Acknowledge(57);  // in the middle of a batch
  relay_.Rewind(57);
  EXPECT_EQ(Read().front(), 58);
  relay_.Rewind(90);  // it has more than it acknowledged
  EXPECT_EQ(Read().front(), 91);
  relay_.Rewind(3);  // it has less
  EXPECT_EQ(Read().front(), 4);
  relay_.Rewind(100);
  EXPECT_THAT(Read(), IsEmpty());
  AppendReports(101, 101);
  EXPECT_THAT(Read(), ElementsAre(101));
}

TEST_F(ReportRelayTest, UnacknowledgedBytes_FallWithAcknowledgements) {
  AppendReports(1, 3);
  Read();
  AppendReports(4, 4);
  Read();
  EXPECT_EQ(relay_.unacknowledged_bytes(), 4 * Line(1).size());
  relay_.Acknowledge(3);
  EXPECT_EQ(relay_.unacknowledged_bytes(), Line(4).size());
  relay_.Rewind(3);
  EXPECT_EQ(relay_.unacknowledged_bytes(), 0);
}

TEST_F(ReportRelayTest, FieldOfANewerRank_IsIgnored) {
  Append("{\"seq\":1,\"progress\":{\"done\":\"1\",\"mood\":\"good\"}}\n");
  EXPECT_THAT(Read(), ElementsAre(1));
}

TEST_F(ReportRelayTest, FileThatBreaksItsFormat_IsDataLossNamingTheLine) {
  for (const std::string& bad : {std::string("{\"seq\":2,\"progress\":\n"), Line(3),
                                 std::string(kMaxRunLineBytes + 2, 'x') + "\n"}) {
    std::remove(path_.c_str());
    Append(Line(1) + bad);
    ReportRelay relay(path_);
    const absl::Status status = relay.Read(kPlenty).status();
    EXPECT_TRUE(absl::IsDataLoss(status)) << status;
    EXPECT_THAT(Message(status), HasSubstr("line 2"));
  }
}

TEST(LogRelayTest, Chunks_FollowTheFileAndTheCursor) {
  TemporaryFolder folder;
  LogRelay log(folder.File("log"));
  EXPECT_EQ(log.Read(10)->data, "");
  folder.Write("log", "0123456789abc");
  EXPECT_EQ(log.Read(10)->data, "0123456789");
  EXPECT_EQ(log.Read(10)->data, "abc");
  EXPECT_EQ(log.unacknowledged_bytes(), 13);
  log.Acknowledge(10);
  EXPECT_EQ(log.unacknowledged_bytes(), 3);
  log.Rewind(2);
  const auto chunk = log.Read(3);
  EXPECT_EQ(chunk->offset, 2);
  EXPECT_EQ(chunk->data, "234");
}

}  // namespace
}  // namespace moe::worker
