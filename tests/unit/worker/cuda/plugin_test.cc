// The plug-in on a real GPU where there is one, and the refusals where there is none.
#include "worker/cuda/plugin.h"

#include <ATen/core/Tensor.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty_like.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/randn.h>
#include <ATen/ops/silu.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "common/status.h"

namespace moe::cuda {
namespace {

std::string BinDir() {
  const char* dir = std::getenv("MOE_BIN_DIR");
  return dir == nullptr ? "." : dir;
}

TEST(LoadPlugin, WithoutGpu_SaysSo) {
  if (HasGpu()) GTEST_SKIP() << "this machine has a GPU";
  const auto plugin = LoadPlugin(BinDir());
  EXPECT_EQ(plugin.status().code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_THAT(Message(plugin.status()), ::testing::HasSubstr("no NVIDIA GPU"));
}

class PluginOnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
#ifndef MOE_HAS_CUDA_PLUGIN
    GTEST_SKIP() << "the plug-in was not built: no nvcc or no NCCL";
#endif
    if (!HasGpu()) GTEST_SKIP() << "no GPU: the plug-in was built and linked, not run";
    auto plugin = LoadPlugin(BinDir());
    ASSERT_TRUE(plugin.ok()) << plugin.status();
    plugin_ = *plugin;
  }

  Plugin* plugin_ = nullptr;
};

TEST_F(PluginOnGpu, SwigluForward_EqualsAten) {
  for (const int64_t width : {96, 97}) {
    const at::Tensor gate_up = at::randn({33, 2 * width}, at::device(at::kCUDA));
    at::Tensor h = at::empty_like(gate_up.narrow(1, 0, width));
    plugin_->SwigluForward(ElementType::kFp32, gate_up.data_ptr(), h.data_ptr(), 33, width);
    const at::Tensor expected =
        at::silu(gate_up.narrow(1, 0, width)).mul(gate_up.narrow(1, width, width));
    EXPECT_LT(h.sub(expected).abs().max().item().toFloat(), 1e-5f);
  }
}

TEST_F(PluginOnGpu, NcclCommunicator_OfOneRank_KeepsValues) {
  const auto communicator = plugin_->MakeNcclCommunicator(plugin_->MakeNcclId(), 0, 0, 1);
  at::Tensor values = at::ones({1000}, at::device(at::kCUDA));
  communicator->AllReduceSum(values);
  communicator->ReduceScatterSum(values);
  communicator->AllGather(values);
  EXPECT_EQ(values.sum().item().toFloat(), 1000.0f);

  at::Tensor received = at::empty_like(values);
  const int64_t bytes[] = {500 * sizeof(float)};
  communicator->AllToAll(values.data_ptr(), bytes, received.data_ptr(), bytes);
  EXPECT_EQ(received.narrow(0, 0, 500).sum().item().toFloat(), 500.0f);
}

}  // namespace
}  // namespace moe::cuda
