// The samples of one optimizer step, over all ranks, and what they amount to.
#pragma once

#include <cstdint>
#include <vector>

#include "sampler/dataset.h"
#include "sampler/sample_sequence.h"

namespace moe::training {

struct GlobalBatch {
  std::vector<sampler::SampleRef> samples;
  std::vector<int64_t> targets;  // of each sample
  int64_t num_targets = 0;       // over all samples
  int64_t num_tokens = 0;
};

// The next `count` samples of the sequence. Every rank draws the whole batch, so that all know
// where the sequence is.
GlobalBatch DrawBatch(sampler::SampleSequence& sequence, const sampler::Dataset& dataset,
                      int64_t count, int64_t sequence_length);

}  // namespace moe::training
