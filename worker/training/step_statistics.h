// What ranks tell each other of a step's micro-batches, and what follows for the global batch.
//
// A micro-batch is a fixed number of doubles, so one all-gather of bytes carries all of them, and
// every sum below runs in the order of the global batch: the result does not depend on the number
// of ranks. Pure.
//
// B samples per micro-batch, L layers with routing, N experts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "worker/model/model.h"

namespace moe::training {

// Position of each number in the record of a micro-batch:
//   [0] CRC-32C of its tokens, [1] their number, [2] balance loss, [3 .. 3 + B) loss sum of each
//   sample, then L x N loads, L x N importances, and the dropped tokens of each layer.
struct StatisticsShape {
  size_t batch_samples = 0;  // B
  size_t num_layers = 0;     // L; 0 for a dense model
  size_t num_experts = 0;    // N
  size_t numel() const { return 3 + batch_samples + num_layers * (2 * num_experts + 1); }
};

struct StepStatistics {
  std::vector<double> sample_loss_sums;  // in the order of the global batch
  double balance_loss = 0;               // mean over micro-batches
  std::vector<model::LayerRouting> routing;
  uint32_t batch_crc32c = 0;
};

// `record` has shape.numel() elements.
void PackMicroBatch(const StatisticsShape& shape, const model::BatchResult& result,
                    std::span<const int64_t> tokens, std::span<double> record);

// `records` are those of all micro-batches in order.
StepStatistics CombineMicroBatches(const StatisticsShape& shape, std::span<const double> records);

// The CRC-32C of two pieces one after the other, from the CRC-32C of each.
uint32_t Crc32cOfConcatenation(uint32_t first, uint32_t second, size_t second_bytes);

}  // namespace moe::training
