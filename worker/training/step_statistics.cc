#include "worker/training/step_statistics.h"

#include <algorithm>
#include <array>

#include "common/check.h"
#include "common/crc32c.h"

namespace moe::training {
namespace {

uint32_t Crc32cAfterZeros(uint32_t crc, size_t count) {
  static constexpr std::array<uint8_t, 4096> kZeros = {};
  for (size_t left = count; left > 0;) {
    const size_t piece = std::min(left, kZeros.size());
    crc = Crc32c(kZeros.data(), piece, crc);
    left -= piece;
  }
  return crc;
}

}  // namespace

uint32_t Crc32cOfConcatenation(uint32_t first, uint32_t second, size_t second_bytes) {
  // A CRC is linear but for its start value and final inversion, which both cancel out in the
  // difference of two continuations over the same bytes.
  return Crc32cAfterZeros(first, second_bytes) ^ Crc32cAfterZeros(0, second_bytes) ^ second;
}

void PackMicroBatch(const StatisticsShape& shape, const model::BatchResult& result,
                    std::span<const int64_t> tokens, std::span<double> record) {
  MOE_CHECK(record.size() == shape.numel());
  MOE_CHECK(result.sample_loss_sum.size() == shape.batch_samples);
  MOE_CHECK(result.routing.size() == shape.num_layers);
  auto out = record.begin();
  *out++ = Crc32c(tokens.data(), tokens.size_bytes());
  *out++ = static_cast<double>(tokens.size());
  *out++ = result.balance_loss;
  out = std::copy(result.sample_loss_sum.begin(), result.sample_loss_sum.end(), out);
  for (const model::LayerRouting& layer : result.routing) {
    out = std::copy(layer.load.begin(), layer.load.end(), out);
  }
  for (const model::LayerRouting& layer : result.routing) {
    out = std::copy(layer.importance.begin(), layer.importance.end(), out);
  }
  for (const model::LayerRouting& layer : result.routing) {
    *out++ = static_cast<double>(layer.dropped);
  }
  MOE_CHECK(out == record.end());
}

StepStatistics CombineMicroBatches(const StatisticsShape& shape, std::span<const double> records) {
  const size_t num_micro_batches = records.size() / shape.numel();
  MOE_CHECK(num_micro_batches > 0 && records.size() == num_micro_batches * shape.numel());
  StepStatistics total;
  total.routing.assign(shape.num_layers, {.load = std::vector<int64_t>(shape.num_experts),
                                          .importance = std::vector<double>(shape.num_experts)});
  for (size_t i = 0; i < num_micro_batches; ++i) {
    const auto record = records.subspan(i * shape.numel(), shape.numel());
    total.batch_crc32c = Crc32cOfConcatenation(total.batch_crc32c, static_cast<uint32_t>(record[0]),
                                               static_cast<size_t>(record[1]) * sizeof(int64_t));
    total.balance_loss += record[2];
    const auto losses = record.subspan(3, shape.batch_samples);
    total.sample_loss_sums.insert(total.sample_loss_sums.end(), losses.begin(), losses.end());

    const size_t numbers = shape.num_layers * shape.num_experts;
    const auto loads = record.subspan(3 + shape.batch_samples, numbers);
    const auto importances = record.subspan(3 + shape.batch_samples + numbers, numbers);
    const auto dropped = record.last(shape.num_layers);
    for (size_t layer = 0; layer < shape.num_layers; ++layer) {
      for (size_t expert = 0; expert < shape.num_experts; ++expert) {
        const size_t position = layer * shape.num_experts + expert;
        total.routing[layer].load[expert] += static_cast<int64_t>(loads[position]);
        total.routing[layer].importance[expert] += importances[position];
      }
      total.routing[layer].dropped += static_cast<int64_t>(dropped[layer]);
    }
  }
  total.balance_loss /= static_cast<double>(num_micro_batches);
  return total;
}

}  // namespace moe::training
