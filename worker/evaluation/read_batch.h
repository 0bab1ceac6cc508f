// Samples of a dataset as a batch for the model.
#pragma once

#include <cstdint>
#include <span>

#include "sampler/dataset.h"
#include "sampler/sample_sequence.h"
#include "worker/model/batch.h"

namespace moe::evaluation {

// Which of the tokens before it a token attends to.
enum class AttentionScope {
  kSample,    // all of its sample
  kDocument,  // those of its document in the sample
};

// The samples in their order; `sequence_length` as in Dataset::ReadSample.
model::Batch ReadBatch(const sampler::Dataset& dataset, sampler::Split split,
                       std::span<const sampler::SampleRef> samples, int64_t sequence_length,
                       AttentionScope scope);

}  // namespace moe::evaluation
