#include "worker/rank/device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"

namespace moe::rank {
namespace {

TEST(DeviceTest, Bf16Feature_ReadsTheFlagsOfTheFirstCpu) {
  EXPECT_EQ(Bf16Feature("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 sha\nbugs\t: x\n"),
            "avx512_bf16");
  EXPECT_EQ(Bf16Feature("processor\t: 0\nflags\t\t: fpu avx512_bf16 amx_bf16"), "amx_bf16");
}

TEST(DeviceTest, Bf16Feature_OfACpuWithoutIt_IsEmpty) {
  EXPECT_EQ(Bf16Feature("processor\t: 0\nflags\t\t: fpu avx2 avx512f\nnote\t: avx512_bf16\n"), "");
  EXPECT_EQ(Bf16Feature(""), "");
}

TEST(DeviceTest, ChooseCompute_Bf16WithoutInstructions_FallsBackToFp32) {
  const Device old{.threads = 2, .bf16_feature = ""};
  const Device current{.threads = 2, .bf16_feature = "avx512_bf16"};
  EXPECT_EQ(ChooseCompute("bf16", old), model::ComputeType::kFp32);
  EXPECT_EQ(ChooseCompute("bf16", current), model::ComputeType::kBf16);
  EXPECT_EQ(ChooseCompute("fp32", current), model::ComputeType::kFp32);
}

TEST(DeviceTest, Name_SaysWhatItIs) {
  EXPECT_EQ((Device{.threads = 2, .bf16_feature = "avx512_bf16"}).Name(),
            "cpu avx512_bf16, 2 threads");
  EXPECT_EQ((Device{.threads = 1, .bf16_feature = ""}).Name(), "cpu, 1 thread");
}

TEST(DeviceTest, ChooseGpu_OfWhatIsNotThere_SaysWhy) {
  EXPECT_THAT(Message(ChooseGpu("tpu").status()), testing::HasSubstr("--device=tpu"));
  EXPECT_THAT(Message(ChooseGpu("gpu:x").status()), testing::HasSubstr("--device=gpu:x"));
  if (cuda::HasGpu()) GTEST_SKIP() << "this machine has a GPU";
  EXPECT_THAT(Message(ChooseGpu("gpu:0").status()), testing::HasSubstr("no NVIDIA GPU"));
  EXPECT_EQ(*ChooseGpu("cpu"), nullptr);
  EXPECT_EQ(*ChooseGpu("auto"), nullptr) << "the CPU's fast path";
}

}  // namespace
}  // namespace moe::rank
