#include "worker/training/global_batch.h"

namespace moe::training {

GlobalBatch DrawBatch(sampler::SampleSequence& sequence, const sampler::Dataset& dataset,
                      int64_t count, int64_t sequence_length) {
  GlobalBatch batch;
  for (int64_t i = 0; i < count; ++i) {
    const sampler::SampleRef sample = sequence.Next();
    const auto split = sampler::Split::kTrain;
    batch.samples.push_back(sample);
    batch.targets.push_back(
        dataset.NumTargets(split, sample.domain, sample.sample, sequence_length));
    batch.num_targets += batch.targets.back();
    batch.num_tokens += dataset.SampleLength(split, sample.domain, sample.sample, sequence_length);
  }
  return batch;
}

}  // namespace moe::training
