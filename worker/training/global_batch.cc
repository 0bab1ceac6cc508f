#include "worker/training/global_batch.h"

namespace moe::training {

GlobalBatch DrawBatch(sampler::SampleSequence& sequence, const sampler::Dataset& dataset,
                      int64_t count, int64_t sequence_length, evaluation::AttentionScope scope) {
  GlobalBatch batch;
  for (int64_t i = 0; i < count; ++i) {
    const sampler::SampleRef sample = sequence.Next();
    const auto split = sampler::Split::kTrain;
    batch.samples.push_back(sample);
    batch.targets.push_back(
        dataset.NumTargets(split, sample.domain, sample.sample, sequence_length));
    batch.num_targets += batch.targets.back();
    const int64_t length =
        dataset.SampleLength(split, sample.domain, sample.sample, sequence_length);
    batch.num_tokens += length;
    std::vector<int64_t> bounds = {0};
    if (scope == evaluation::AttentionScope::kDocument) {
      bounds = dataset.DocumentStarts(split, sample.domain, sample.sample, sequence_length);
    }
    bounds.push_back(length);
    for (size_t b = 1; b < bounds.size(); ++b) {
      const int64_t reach = bounds[b] - bounds[b - 1];
      batch.attention_reach += reach * reach;
    }
  }
  return batch;
}

}  // namespace moe::training
