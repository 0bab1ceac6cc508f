// Next-token loss on the held-out text of every domain.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sampler/dataset.h"
#include "worker/evaluation/read_batch.h"
#include "worker/model/model.h"

namespace moe::evaluation {

struct PerplexityOptions {
  int64_t sequence_length = 512;        // tokens per sample, at least 2
  int64_t max_samples_per_domain = 16;  // 0: all
  int64_t batch_samples = 4;            // per forward pass; does not change the result's meaning
  AttentionScope attention = AttentionScope::kSample;
};

struct DomainLoss {
  std::string domain;
  int64_t samples = 0;
  int64_t tokens = 0;   // predicted: of running text, samples x (sequence_length - 1)
  double loss_sum = 0;  // nats over all predicted tokens

  // Nats per token; NaN where the domain has no sample of this length.
  double MeanLoss() const;
};

// Samples that go through the model together.
struct HeldoutBatch {
  int domain = 0;
  int64_t first = 0;
  int64_t count = 0;
};

// What MeasureDomains reads, in its order: the first `max_samples_per_domain` held-out samples of
// each domain.
std::vector<HeldoutBatch> HeldoutBatches(const sampler::Dataset& dataset,
                                         const PerplexityOptions& options);
// One batch of HeldoutBatches with the same options through the model. The balance loss is not part
// of it (the published code adds it in evaluation too).
DomainLoss MeasureBatch(model::Model& model, const sampler::Dataset& dataset,
                        const PerplexityOptions& options, const HeldoutBatch& batch);

// Samples that MeasureDomains will read.
int64_t CountSamples(const sampler::Dataset& dataset, const PerplexityOptions& options);

// One entry per domain of the dataset, in its order. `keep_going` is called after every batch with
// the samples done so far; when it returns false the rest is left out.
std::vector<DomainLoss> MeasureDomains(model::Model& model, const sampler::Dataset& dataset,
                                       const PerplexityOptions& options,
                                       const std::function<bool(int64_t)>& keep_going);

}  // namespace moe::evaluation
