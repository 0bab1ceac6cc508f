#include "worker/parallel/device_communicator.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/full.h>
#include <gtest/gtest.h>

#include <cstdint>
#include <memory>
#include <vector>

#include "tests/unit/worker/parallel/in_memory_rendezvous.h"
#include "tests/unit/worker/parallel/run_ranks.h"
#include "worker/parallel/single_rank.h"

namespace moe::parallel {
namespace {

constexpr int64_t kTimeoutMs = 60'000;

// Two ranks, whose devices are connected by a number that rank 0 draws, as NCCL's are.
class DeviceCommunicatorTest : public ::testing::Test {
 protected:
  void RunBoth(const std::function<void(DeviceCommunicator&)>& body) {
    RunRanks(2, kTimeoutMs, [&](Communicator& hosts) {
      const int all[] = {0, 1};
      DeviceCommunicator communicator(hosts.Split("all", all, kTimeoutMs),
                                      [this](Communicator& of_hosts) {
                                        int64_t id = of_hosts.rank() == 0 ? 17 : 0;
                                        of_hosts.BroadcastBytes(&id, sizeof id, 0);
                                        ids_[static_cast<size_t>(of_hosts.rank())] = id;
                                        ++connections_[static_cast<size_t>(of_hosts.rank())];
                                        return std::make_unique<SingleRankCommunicator>();
                                      });
      body(communicator);
    });
  }

  std::vector<int64_t> ids_ = {0, 0}, connections_ = {0, 0};
};

TEST_F(DeviceCommunicatorTest, BytesAndTensorsOfTheHost_GoFromHostToHost) {
  RunBoth([](DeviceCommunicator& communicator) {
    const int64_t mine = communicator.rank() + 5;
    int64_t all[2] = {};
    communicator.AllGatherBytes(&mine, sizeof mine, all);
    EXPECT_EQ(all[0] + all[1], 11);
    at::Tensor values = at::full({128}, 2.0, at::kFloat);
    communicator.AllReduceSum(values);
    EXPECT_EQ(values.sum().item<float>(), 2 * 2 * 128);
    communicator.ReduceScatterSum(values);
    communicator.AllGather(values);
    EXPECT_EQ(values.sum().item<float>(), 4 * 2 * 128);
    EXPECT_GT(communicator.sent_bytes(), 3 * 64 * 4);
    communicator.Split("more", kTimeoutMs)->Barrier();
  });
  EXPECT_EQ(connections_, (std::vector<int64_t>{0, 0})) << "no tensor of a device, no connection";
}

TEST_F(DeviceCommunicatorTest, TensorsOfADevice_ConnectTheDevicesOnce) {
  RunBoth([](DeviceCommunicator& communicator) {
    at::Tensor values = at::empty({128}, at::TensorOptions().dtype(at::kFloat).device(at::kMeta));
    const std::unique_ptr<Communicator> part = communicator.Split("state", kTimeoutMs);
    part->AllReduceSum(values);
    part->ReduceScatterSum(values);
    part->AllGather(values);
    part->Barrier();
  });
  EXPECT_EQ(ids_, (std::vector<int64_t>{17, 17}));
  EXPECT_EQ(connections_, (std::vector<int64_t>{1, 1}));
}

}  // namespace
}  // namespace moe::parallel
