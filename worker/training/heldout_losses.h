// The losses on held-out text while a run goes on, measured by all ranks together.
#pragma once

#include <vector>

#include "sampler/dataset.h"
#include "worker/evaluation/perplexity.h"
#include "worker/model/model.h"
#include "worker/parallel/communicator.h"

namespace moe::training {

// Mean next-token loss of each domain of the dataset, in nats, without gate noise and balance loss,
// on the samples that an evaluation with these options reads; NaN where `wanted` says no or the
// domain has no held-out sample. The same bits on every rank and for any number of ranks. Every
// rank calls it; CollectiveError as the communicator has it.
std::vector<double> MeasureHeldout(const evaluation::PerplexityOptions& options,
                                   const std::vector<bool>& wanted, const sampler::Dataset& dataset,
                                   model::Model& model, parallel::Communicator& communicator);

}  // namespace moe::training
