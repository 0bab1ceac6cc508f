// The samples of one optimizer step, over all ranks, and what they amount to.
#pragma once

#include <cstdint>
#include <vector>

#include "sampler/dataset.h"
#include "sampler/sample_sequence.h"
#include "worker/evaluation/read_batch.h"

namespace moe::training {

struct GlobalBatch {
  std::vector<sampler::SampleRef> samples;
  std::vector<int64_t> targets;  // of each sample
  int64_t num_targets = 0;       // over all samples
  int64_t num_tokens = 0;
  // Over all tokens: the length of the stretch of text that the token attends within.
  int64_t attention_reach = 0;

  // The sequence length at which attention costs a token as much, for planner::CountFlops.
  int64_t MeanReach() const { return attention_reach / num_tokens; }
};

// The next `count` samples of the sequence. Every rank draws the whole batch, so that all know
// where the sequence is.
GlobalBatch DrawBatch(sampler::SampleSequence& sequence, const sampler::Dataset& dataset,
                      int64_t count, int64_t sequence_length, evaluation::AttentionScope scope);

}  // namespace moe::training
