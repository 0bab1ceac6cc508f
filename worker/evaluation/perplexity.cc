#include "worker/evaluation/perplexity.h"

#include <algorithm>
#include <limits>

namespace moe::evaluation {
namespace {

int64_t DomainSamples(const sampler::Dataset& dataset, int domain,
                      const PerplexityOptions& options) {
  const int64_t available =
      dataset.NumSamples(sampler::Split::kHeldout, domain, options.sequence_length);
  return options.max_samples_per_domain > 0 ? std::min(available, options.max_samples_per_domain)
                                            : available;
}

}  // namespace

double DomainLoss::MeanLoss() const {
  return tokens > 0 ? loss_sum / static_cast<double>(tokens)
                    : std::numeric_limits<double>::quiet_NaN();
}

std::vector<HeldoutBatch> HeldoutBatches(const sampler::Dataset& dataset,
                                         const PerplexityOptions& options) {
  std::vector<HeldoutBatch> batches;
  for (int domain = 0; domain < static_cast<int>(dataset.domains().size()); ++domain) {
    const int64_t samples = DomainSamples(dataset, domain, options);
    for (int64_t first = 0; first < samples; first += options.batch_samples) {
      batches.push_back({domain, first, std::min(options.batch_samples, samples - first)});
    }
  }
  return batches;
}

DomainLoss MeasureBatch(model::Model& model, const sampler::Dataset& dataset,
                        const PerplexityOptions& options, const HeldoutBatch& batch) {
  std::vector<sampler::SampleRef> samples;
  for (int64_t i = 0; i < batch.count; ++i) {
    samples.push_back({.domain = batch.domain, .epoch = 0, .sample = batch.first + i});
  }
  const model::BatchResult result = model.Evaluate(ReadBatch(
      dataset, sampler::Split::kHeldout, samples, options.sequence_length, options.attention));
  DomainLoss loss;
  loss.domain = dataset.domains()[static_cast<size_t>(batch.domain)].name;
  loss.samples = batch.count;
  loss.tokens = result.num_targets;
  for (const double sum : result.sample_loss_sum) loss.loss_sum += sum;
  return loss;
}

int64_t CountSamples(const sampler::Dataset& dataset, const PerplexityOptions& options) {
  int64_t samples = 0;
  for (const HeldoutBatch& batch : HeldoutBatches(dataset, options)) samples += batch.count;
  return samples;
}

std::vector<DomainLoss> MeasureDomains(model::Model& model, const sampler::Dataset& dataset,
                                       const PerplexityOptions& options,
                                       const std::function<bool(int64_t)>& keep_going) {
  std::vector<DomainLoss> losses;
  for (const sampler::DatasetDomain& domain : dataset.domains()) {
    losses.push_back({.domain = domain.name});
  }
  int64_t done = 0;
  for (const HeldoutBatch& batch : HeldoutBatches(dataset, options)) {
    const DomainLoss loss = MeasureBatch(model, dataset, options, batch);
    DomainLoss& sum = losses[static_cast<size_t>(batch.domain)];
    sum.loss_sum += loss.loss_sum;
    sum.samples += loss.samples;
    sum.tokens += loss.tokens;
    done += loss.samples;
    if (!keep_going(done)) break;
  }
  return losses;
}

}  // namespace moe::evaluation
