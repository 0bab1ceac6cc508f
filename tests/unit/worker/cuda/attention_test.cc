#include "worker/cuda/attention.h"

#include <gtest/gtest.h>

namespace moe::cuda {
namespace {

kernels::device::AttentionBatch BatchOf(int64_t kv_heads, bool is_uniform) {
  return {.shape = {.batch = 2, .heads = 8, .kv_heads = kv_heads, .head_dim = 64},
          .longest = 16,
          .is_uniform = is_uniform};
}

TEST(ChooseAttention, IsCudnnWhereItServesAndIsFastest) {
  EXPECT_EQ(ChooseAttention(BatchOf(8, true), at::kBFloat16, 9), AttentionBackend::kCudnn);
  EXPECT_EQ(ChooseAttention(BatchOf(8, true), at::kBFloat16, 8), AttentionBackend::kFlash)
      << "A100";
  EXPECT_EQ(ChooseAttention(BatchOf(8, true), at::kBFloat16, 10), AttentionBackend::kFlash)
      << "B200";
  EXPECT_EQ(ChooseAttention(BatchOf(2, true), at::kBFloat16, 9), AttentionBackend::kFlash)
      << "grouped query heads";
  EXPECT_EQ(ChooseAttention(BatchOf(8, false), at::kBFloat16, 9), AttentionBackend::kFlash)
      << "samples of several lengths";
  EXPECT_EQ(ChooseAttention(BatchOf(8, true), at::kFloat, 9), AttentionBackend::kEfficient);
}

}  // namespace
}  // namespace moe::cuda
