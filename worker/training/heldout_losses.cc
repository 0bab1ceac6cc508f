#include "worker/training/heldout_losses.h"

#include <algorithm>
#include <limits>

namespace moe::training {

std::vector<double> MeasureHeldout(const evaluation::PerplexityOptions& options,
                                   const std::vector<bool>& wanted, const sampler::Dataset& dataset,
                                   model::Model& model, parallel::Communicator& communicator) {
  std::vector<evaluation::HeldoutBatch> batches = evaluation::HeldoutBatches(dataset, options);
  std::erase_if(batches, [&wanted](const evaluation::HeldoutBatch& batch) {
    return !wanted[static_cast<size_t>(batch.domain)];
  });
  // Batches are dealt out to the ranks; each is computed and added up alike wherever that is.
  struct Measured {
    double loss_sum = 0;
    double tokens = 0;
  };
  const size_t world_size = static_cast<size_t>(communicator.world_size());
  const size_t rank = static_cast<size_t>(communicator.rank());
  std::vector<Measured> mine(batches.size());
  for (size_t first = 0; first < batches.size(); first += world_size) {
    // Ranks that share out experts pass together: one without a batch takes the last one along.
    const size_t i = std::min(first + rank, batches.size() - 1);
    const evaluation::DomainLoss loss =
        evaluation::MeasureBatch(model, dataset, options, batches[i]);
    if (i == first + rank) mine[i] = {loss.loss_sum, static_cast<double>(loss.tokens)};
  }
  std::vector<Measured> all(batches.size() * world_size);
  communicator.AllGatherBytes(mine.data(), mine.size() * sizeof(Measured), all.data());

  std::vector<Measured> sums(wanted.size());
  for (size_t i = 0; i < batches.size(); ++i) {
    const Measured& measured = all[i % world_size * batches.size() + i];
    Measured& sum = sums[static_cast<size_t>(batches[i].domain)];
    sum.loss_sum += measured.loss_sum;
    sum.tokens += measured.tokens;
  }
  std::vector<double> losses;
  for (const Measured& sum : sums) {
    losses.push_back(sum.tokens > 0 ? sum.loss_sum / sum.tokens
                                    : std::numeric_limits<double>::quiet_NaN());
  }
  return losses;
}

}  // namespace moe::training
