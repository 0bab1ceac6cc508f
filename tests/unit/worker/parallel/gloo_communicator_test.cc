#include "worker/parallel/gloo_communicator.h"

#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <string>
#include <vector>

#include "tests/unit/worker/parallel/run_ranks.h"

namespace moe::parallel {
namespace {

using testing::AllOf;
using testing::HasSubstr;

constexpr int64_t kTimeoutMs = 20'000;

TEST(OwnedRange, AnySize_CoversTheArenaOnceInAlignedPieces) {
  for (const int64_t numel : {0, 64, 640, 6400 + 64, 1'000'000}) {
    for (const int world_size : {1, 2, 3, 7}) {
      int64_t covered = 0;
      for (int rank = 0; rank < world_size; ++rank) {
        const Range range = OwnedRange(numel, rank, world_size);
        EXPECT_EQ(range.begin, covered);
        EXPECT_TRUE(range.begin % 64 == 0 || range.begin == numel);
        covered = range.end;
      }
      EXPECT_EQ(covered, numel);
    }
  }
}

class GlooRanks : public testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(WorldSizes, GlooRanks, testing::Values(1, 2, 3));

// Sizes from less than one element per rank to several pieces of a message.
constexpr int64_t kSizes[] = {1, 64, 1000, 5'000'000};

TEST_P(GlooRanks, ReduceScatterThenAllGather_IsTheSumEverywhere) {
  RunRanks(GetParam(), kTimeoutMs, [](Communicator& communicator) {
    const int world_size = communicator.world_size();
    for (const int64_t numel : kSizes) {
      // Rank r holds i mod 1000 + r, exact in fp32.
      const at::Tensor base = at::arange(numel, at::kFloat).remainder(1000);
      const at::Tensor mine = base.add(communicator.rank());
      const at::Tensor sum = base.mul(world_size).add(world_size * (world_size - 1) / 2);
      const Range own = OwnedRange(numel, communicator.rank(), world_size);

      at::Tensor values = mine.clone();
      communicator.ReduceScatterSum(values);
      EXPECT_TRUE(at::equal(values.narrow(0, own.begin, own.numel()),
                            sum.narrow(0, own.begin, own.numel())));
      EXPECT_TRUE(at::equal(values.narrow(0, 0, own.begin), mine.narrow(0, 0, own.begin)))
          << "what others own keeps this rank's values";
      communicator.AllGather(values);
      EXPECT_TRUE(at::equal(values, sum));

      at::Tensor again = mine.clone();
      communicator.AllReduceSum(again);
      EXPECT_TRUE(at::equal(again, sum));
    }
  });
}

TEST_P(GlooRanks, Bytes_ArriveInRankOrder) {
  RunRanks(GetParam(), kTimeoutMs, [](Communicator& communicator) {
    const int world_size = communicator.world_size();
    const std::string mine = "from rank " + std::to_string(communicator.rank());
    std::string all(mine.size() * static_cast<size_t>(world_size), '?');
    communicator.AllGatherBytes(mine.data(), mine.size(), all.data());
    std::string expected;
    for (int rank = 0; rank < world_size; ++rank) expected += "from rank " + std::to_string(rank);
    EXPECT_EQ(all, expected);

    for (int root = 0; root < world_size; ++root) {
      int64_t value = communicator.rank() == root ? 100 + root : -1;
      communicator.BroadcastBytes(&value, sizeof(value), root);
      EXPECT_EQ(value, 100 + root);
    }
    communicator.Barrier();
  });
}

// Rank r sends r + 2 t bytes to rank t, but none to the rank before it: uneven, and nothing at all
// on some ways.
TEST_P(GlooRanks, AllToAll_UnevenAndEmptyParts_ArriveInRankOrder) {
  RunRanks(GetParam(), kTimeoutMs, [](Communicator& communicator) {
    const int world_size = communicator.world_size(), rank = communicator.rank();
    for (const int64_t unit : {1, 3'000'000}) {  // less than a piece of a message, and several
      const auto size = [=](int from, int to) {
        return to == (from + world_size - 1) % world_size && to != from ? 0
                                                                        : unit * (from + 2 * to);
      };
      const auto content = [](int from, int to) { return static_cast<char>('a' + 8 * from + to); };
      std::string mine, expected;
      std::vector<int64_t> sent, received;
      for (int other = 0; other < world_size; ++other) {
        sent.push_back(size(rank, other));
        received.push_back(size(other, rank));
        mine.append(static_cast<size_t>(sent.back()), content(rank, other));
        expected.append(static_cast<size_t>(received.back()), content(other, rank));
      }
      std::string all(expected.size(), '?');
      communicator.AllToAll(mine.data(), sent, all.data(), received);
      EXPECT_TRUE(all == expected) << "rank " << rank << ", unit " << unit;
    }
  });
}

TEST(GlooCommunicator, SplitIntoGroups_EachTalksAmongItself) {
  RunRanks(4, kTimeoutMs, [](Communicator& communicator) {
    const int rank = communicator.rank();
    const std::vector<int> members = {rank % 2, rank % 2 + 2};
    const auto group = communicator.Split("group", members, kTimeoutMs);
    EXPECT_EQ(group->world_size(), 2);
    EXPECT_EQ(group->rank(), rank / 2);
    std::array<int, 2> all = {};
    group->AllGatherBytes(&rank, sizeof(rank), all.data());
    EXPECT_EQ(std::vector<int>(all.begin(), all.end()), members);

    const std::vector<int> alone = {rank};
    EXPECT_EQ(communicator.Split("alone", alone, kTimeoutMs)->world_size(), 1);
  });
}

TEST(GlooCommunicator, GroupWhoseRankDies_NamesRanksOfTheRun) {
  try {
    RunRanks(4, kTimeoutMs, [](Communicator& communicator) {
      const int rank = communicator.rank();
      const auto group =
          communicator.Split("group", std::vector<int>{rank % 2, rank % 2 + 2}, kTimeoutMs);
      group->set_step(9);
      group->Barrier();
      if (rank != 1) return;  // rank 3's connection closes
      const std::vector<int64_t> sizes = {1, 1};
      char bytes[2] = {}, received[2] = {};
      group->AllToAll(bytes, sizes, received, sizes);
    });
    FAIL() << "no error";
  } catch (const CollectiveError& error) {
    EXPECT_THAT(error.what(),
                AllOf(HasSubstr("rank 1 of 4, step 9: all-to-all failed"), HasSubstr("rank 3")));
  }
}

// The checkpoint writer talks over its own connections while the step loop uses the others.
TEST(GlooCommunicator, Split_UsedByAnotherThread_DoesNotDisturbTheParent) {
  RunRanks(2, kTimeoutMs, [](Communicator& communicator) {
    const std::unique_ptr<Communicator> other = communicator.Split("writer", kTimeoutMs);
    int64_t other_sum = 0;
    std::thread thread([&] {
      for (int64_t i = 0; i < 200; ++i) {
        const int64_t mine = i * (other->rank() + 1);
        std::array<int64_t, 2> all = {};
        other->AllGatherBytes(&mine, sizeof(mine), all.data());
        other_sum += all[0] + all[1];
      }
    });
    at::Tensor values = at::full({100'000}, 1.0f, at::kFloat);
    for (int i = 0; i < 10; ++i) communicator.AllReduceSum(values);
    thread.join();
    EXPECT_EQ(values[99'999].item<float>(), 1024.0f);
    EXPECT_EQ(other_sum, 3 * 199 * 100);
  });
}

TEST(GlooCommunicator, RankThatNeverCalls_TimesOutNamingOperationStepAndRanks) {
  try {
    RunRanks(2, 300, [](Communicator& communicator) {
      communicator.set_step(40);
      if (communicator.rank() == 1) {
        // Outlives rank 0's wait, so that the connection stays open: a hang, not a death.
        const std::unique_ptr<Communicator> held = communicator.Split("held", kTimeoutMs);
        held->Barrier();
        return;
      }
      const std::unique_ptr<Communicator> held = communicator.Split("held", kTimeoutMs);
      at::Tensor values = at::zeros({1000}, at::kFloat);
      try {
        communicator.ReduceScatterSum(values);
      } catch (...) {
        held->Barrier();
        throw;
      }
    });
    FAIL() << "no timeout";
  } catch (const CollectiveError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("rank 0 of 2, step 40: reduce-scatter failed"),
                                    HasSubstr("rank 1"), HasSubstr("300")));
  }
}

TEST(GlooCommunicator, RankThatDies_IsAnErrorOfTheOthers) {
  try {
    RunRanks(2, kTimeoutMs, [](Communicator& communicator) {
      communicator.set_step(7);
      communicator.Barrier();
      if (communicator.rank() == 1) return;  // its connections close
      at::Tensor values = at::zeros({1000}, at::kFloat);
      communicator.AllGather(values);
    });
    FAIL() << "no error";
  } catch (const CollectiveError& error) {
    EXPECT_THAT(error.what(), HasSubstr("rank 0 of 2, step 7: all-gather failed"));
  }
}

TEST(GlooCommunicator, MissingRank_ConnectNamesTheKeyNobodyPut) {
  InMemoryRendezvous rendezvous;
  try {
    GlooCommunicator communicator({.rank = 0, .world_size = 2, .connect_timeout_ms = 200},
                                  rendezvous);
    FAIL() << "connected to nobody";
  } catch (const CollectiveError& error) {
    EXPECT_THAT(error.what(), AllOf(HasSubstr("connect failed"), HasSubstr("gloo/1")));
  }
}

}  // namespace
}  // namespace moe::parallel
