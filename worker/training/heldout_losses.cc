#include "worker/training/heldout_losses.h"

#include <limits>

namespace moe::training {

std::vector<double> MeasureHeldout(const evaluation::PerplexityOptions& options,
                                   const std::vector<bool>& wanted, const sampler::Dataset& dataset,
                                   model::Model& model, parallel::Communicator& communicator) {
  const std::vector<evaluation::HeldoutBatch> batches =
      evaluation::HeldoutBatches(dataset, options);
  // Batches are dealt out to the ranks; each is computed and added up alike wherever that is.
  struct Measured {
    double loss_sum = 0;
    double tokens = 0;
  };
  const size_t world_size = static_cast<size_t>(communicator.world_size());
  std::vector<Measured> mine(batches.size());
  for (size_t i = static_cast<size_t>(communicator.rank()); i < batches.size(); i += world_size) {
    if (!wanted[static_cast<size_t>(batches[i].domain)]) continue;
    const evaluation::DomainLoss loss =
        evaluation::MeasureBatch(model, dataset, options, batches[i]);
    mine[i] = {loss.loss_sum, static_cast<double>(loss.tokens)};
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
