// The plug-in on a real GPU where there is one, and the refusals where there is none.
#include "worker/cuda/plugin.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/full.h>
#include <ATen/ops/ones.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>
#include <vector>

#include "common/status.h"
#include "tests/unit/worker/cuda/on_gpu.h"

namespace moe::cuda {
namespace {

TEST(LoadPlugin, WithoutGpu_SaysSo) {
  if (HasGpu()) GTEST_SKIP() << "this machine has a GPU";
  const auto plugin = LoadPlugin(BinDir());
  EXPECT_EQ(plugin.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(plugin.status()), ::testing::HasSubstr("no NVIDIA GPU"));
}

using PluginOnGpu = OnGpu;

TEST_F(PluginOnGpu, Describe_NamesTheDevice) {
  ASSERT_GE(plugin_->NumDevices(), 1);
  const DeviceInfo info = plugin_->Describe(0);
  EXPECT_FALSE(info.name.empty());
  EXPECT_GT(info.memory_bytes, int64_t{1} << 30);
  EXPECT_GE(info.compute_capability, 80);
}

TEST_F(PluginOnGpu, NcclCommunicator_OfOneRank_KeepsValues) {
  const auto communicator = plugin_->MakeNcclCommunicator(plugin_->MakeNcclId(), 0, 0, 1);
  at::Tensor values = at::ones({1000}, at::device(at::kCUDA));
  communicator->AllReduceSum(values);
  communicator->ReduceScatterSum(values);
  communicator->AllGather(values);
  EXPECT_EQ(values.sum().item().toFloat(), 1000.0f);
}

TEST_F(PluginOnGpu, NcclCommunicator_OfTwoGpus_AddsAndGathers) {
  if (plugin_->NumDevices() < 2) GTEST_SKIP() << "one GPU: NCCL between two was not run";
  const NcclId id = plugin_->MakeNcclId();
  std::vector<float> sums(2);
  std::vector<std::thread> ranks;
  for (int rank = 0; rank < 2; ++rank) {
    ranks.emplace_back([&, rank] {
      const auto communicator = plugin_->MakeNcclCommunicator(id, rank, rank, 2);
      at::Tensor values = at::full({1000}, 1.0f + static_cast<float>(rank),
                                   at::device(at::Device(at::kCUDA, rank)));
      communicator->ReduceScatterSum(values);
      communicator->AllGather(values);
      sums[static_cast<size_t>(rank)] = values.sum().item().toFloat();
    });
  }
  for (std::thread& rank : ranks) rank.join();
  EXPECT_THAT(sums, ::testing::Each(3000.0f));
}

}  // namespace
}  // namespace moe::cuda
