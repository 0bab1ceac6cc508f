#include "worker/evaluation/read_batch.h"

namespace moe::evaluation {

model::Batch ReadBatch(const sampler::Dataset& dataset, sampler::Split split,
                       std::span<const sampler::SampleRef> samples, int64_t sequence_length) {
  model::Batch batch;
  for (const sampler::SampleRef& sample : samples) {
    const model::Batch::Room room =
        batch.AddSample(dataset.SampleLength(split, sample.domain, sample.sample, sequence_length));
    dataset.ReadSample(split, sample.domain, sample.sample, sequence_length, room.tokens,
                       room.targets);
  }
  return batch;
}

}  // namespace moe::evaluation
