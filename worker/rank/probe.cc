#include "worker/rank/probe.h"

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <sstream>
#include <string>

#include "common/file.h"
#include "common/status.h"
#include "worker/kernels/attention.h"
#include "worker/kernels/buffer.h"
#include "worker/kernels/gemm.h"
#include "worker/kernels/parallel.h"

namespace moe::rank {
namespace {

using kernels::Buffer;
using kernels::Matrix;

constexpr double kSecondsPerKernel = 0.12;
constexpr int kLeastRuns = 3;

// The best of repeated runs: what the machine can do when nothing disturbs.
double BestSeconds(const std::function<void()>& body) {
  using Clock = std::chrono::steady_clock;
  double best = 1e9, spent = 0;
  for (int run = 0; run < kLeastRuns || spent < kSecondsPerKernel; ++run) {
    const Clock::time_point start = Clock::now();
    body();
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    if (run > 0) best = std::min(best, seconds);  // the first one touches its memory
    spent += seconds;
  }
  return best;
}

template <typename Float>
Float* Filled(Buffer<Float>& buffer, int64_t count) {
  Float* data = buffer.Reserve(count);
  for (int64_t i = 0; i < count; ++i)
    data[i] = static_cast<Float>(0.01f * static_cast<float>(i % 7));
  return data;
}

// [m, k] x [k, n], `side_by_side` of them at a time.
template <typename Float>
double GemmFlops(int64_t m, int64_t k, int64_t n, int64_t side_by_side) {
  Buffer<Float> a, b, c;
  Filled(a, side_by_side * m * k);
  Filled(b, side_by_side * k * n);
  Filled(c, side_by_side * m * n);
  const auto product = [&](int64_t i) {
    kernels::Gemm(Matrix<const Float>(a.data() + i * m * k, m, k),
                  Matrix<const Float>(b.data() + i * k * n, n, k).Transposed(),
                  kernels::Output::kOverwrite, Matrix<Float>(c.data() + i * m * n, m, n));
  };
  const double seconds = BestSeconds([&] {
    if (side_by_side == 1) return product(0);
    kernels::ParallelTasks(side_by_side, [&](int64_t, int64_t task) { product(task); });
  });
  return 2.0 * static_cast<double>(side_by_side * m * k * n) / seconds;
}

template <typename Float>
double AttentionFlops() {
  const kernels::AttentionShape shape = {
      .batch = 1, .sequence = 512, .heads = 8, .kv_heads = 4, .head_dim = 64};
  const int64_t rows = shape.batch * shape.sequence;
  Buffer<Float> qkv, out, dout, dqkv;
  Buffer<float> log_sum_exp;
  Filled(qkv, rows * shape.qkv_width());
  Filled(dout, rows * shape.out_width());
  Filled(out, rows * shape.out_width());
  Filled(dqkv, rows * shape.qkv_width());
  Filled(log_sum_exp, rows * shape.heads);
  const double seconds = BestSeconds([&] {
    kernels::AttentionForward<Float>(shape, qkv.data(), out.data(), log_sum_exp.data());
    kernels::AttentionBackward<Float>(shape, dout.data(), qkv.data(), out.data(),
                                      log_sum_exp.data(), dqkv.data());
  });
  // Forward 2 S^2 hd per head (causal, two products), backward twice as much.
  return 3.0 * 2.0 * static_cast<double>(rows * shape.sequence * shape.out_width()) / seconds;
}

template <typename Float>
DeviceSpeed::Rates MeasureRates() {
  // The shapes of SmolLM2: its attention projections on 2,048 tokens, and one of 16 experts.
  return {.dense_flops = GemmFlops<Float>(2048, 576, 960, 1),
          .expert_flops = GemmFlops<Float>(512, 576, 192, 8),
          .attention_flops = AttentionFlops<Float>()};
}

// 0 where the kernel does not say.
int64_t ResidentBytes() {
  const absl::StatusOr<std::string> statm = ReadFile("/proc/self/statm");
  if (!statm.ok()) return 0;
  std::istringstream words(*statm);
  int64_t size_pages = 0, resident_pages = 0;
  words >> size_pages >> resident_pages;
  return resident_pages * ::sysconf(_SC_PAGE_SIZE);
}

double CopyBytes() {
  constexpr int64_t kCount = int64_t{16} << 20;  // 64 MiB, beyond the caches
  Buffer<float> from, to;
  Filled(from, kCount);
  Filled(to, kCount);
  const double seconds = BestSeconds([&] {
    at::parallel_for(0, kCount, 1 << 20, [&](int64_t begin, int64_t end) {
      std::memcpy(to.data() + begin, from.data() + begin,
                  static_cast<size_t>(end - begin) * sizeof(float));
    });
  });
  return 2.0 * static_cast<double>(kCount) * sizeof(float) / seconds;
}

}  // namespace

Json ToJson(const DeviceSpeed& speed) {
  return {{"bf16_flops", speed.bf16.dense_flops},
          {"fp32_flops", speed.fp32.dense_flops},
          {"bf16_expert_flops", speed.bf16.expert_flops},
          {"fp32_expert_flops", speed.fp32.expert_flops},
          {"bf16_attention_flops", speed.bf16.attention_flops},
          {"fp32_attention_flops", speed.fp32.attention_flops},
          {"memory_bytes", speed.memory_bytes},
          {"process_bytes", speed.process_bytes},
          {"has_bf16", speed.has_bf16}};
}

DeviceSpeed MeasureSpeed(const Device& device) {
  DeviceSpeed speed;
  speed.fp32 = MeasureRates<float>();
  // Libraries are loaded and threads started; buffers are given back.
  speed.process_bytes = ResidentBytes();
  speed.memory_bytes = CopyBytes();
  speed.has_bf16 = !device.bf16_feature.empty();
  speed.bf16 = speed.has_bf16 ? MeasureRates<c10::BFloat16>() : speed.fp32;
  return speed;
}

double MeasurePeakFlops(model::ComputeType compute) {
  constexpr int64_t kSize = 1024;
  return compute == model::ComputeType::kBf16 ? GemmFlops<c10::BFloat16>(kSize, kSize, kSize, 1)
                                              : GemmFlops<float>(kSize, kSize, kSize, 1);
}

}  // namespace moe::rank
