#include "worker/evaluation/read_batch.h"

#include <vector>

namespace moe::evaluation {

model::Batch ReadBatch(const sampler::Dataset& dataset, sampler::Split split,
                       std::span<const sampler::SampleRef> samples, int64_t sequence_length,
                       AttentionScope scope) {
  model::Batch batch;
  for (const sampler::SampleRef& sample : samples) {
    const int64_t begin = batch.num_tokens();
    const model::Batch::Room room =
        batch.AddSample(dataset.SampleLength(split, sample.domain, sample.sample, sequence_length));
    dataset.ReadSample(split, sample.domain, sample.sample, sequence_length, room.tokens,
                       room.targets);
    if (scope == AttentionScope::kSample) continue;
    const std::vector<int64_t> starts =
        dataset.DocumentStarts(split, sample.domain, sample.sample, sequence_length);
    for (size_t i = 1; i < starts.size(); ++i) batch.document_ends.push_back(begin + starts[i]);
    batch.document_ends.push_back(batch.num_tokens());
  }
  return batch;
}

}  // namespace moe::evaluation
