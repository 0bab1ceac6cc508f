// The losses on held-out text while a run goes on, measured by all ranks together.
#pragma once

#include <cstdint>
#include <vector>

#include "sampler/dataset.h"
#include "worker/model/model.h"
#include "worker/parallel/communicator.h"

namespace moe::training {

struct HeldoutOptions {
  int64_t sequence_length = 0;
  int64_t samples_per_domain = 16;  // the first of each, always the same
  int64_t batch_samples = 4;        // per forward pass
};

// Mean next-token loss of each domain of the dataset, in nats, without gate noise and balance loss;
// NaN where `wanted` says no or the domain has no held-out sample. The same bits on every rank and
// for any number of ranks. Every rank calls it; CollectiveError as the communicator has it.
std::vector<double> MeasureHeldout(const HeldoutOptions& options, const std::vector<bool>& wanted,
                                   const sampler::Dataset& dataset, model::Model& model,
                                   parallel::Communicator& communicator);

}  // namespace moe::training
