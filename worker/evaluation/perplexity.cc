#include "worker/evaluation/perplexity.h"

#include <ATen/ops/empty.h>

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

at::Tensor ReadBatch(const sampler::Dataset& dataset, int domain, int64_t first, int64_t count,
                     int64_t length) {
  at::Tensor tokens_BS = at::empty({count, length}, at::kLong);
  int64_t* out = tokens_BS.mutable_data_ptr<int64_t>();
  for (int64_t b = 0; b < count; ++b) {
    dataset.ReadSample(sampler::Split::kHeldout, domain, first + b, length, out + b * length);
  }
  return tokens_BS;
}

}  // namespace

double DomainLoss::MeanLoss() const {
  return tokens > 0 ? loss_sum / static_cast<double>(tokens)
                    : std::numeric_limits<double>::quiet_NaN();
}

int64_t CountSamples(const sampler::Dataset& dataset, const PerplexityOptions& options) {
  int64_t samples = 0;
  for (size_t domain = 0; domain < dataset.domains().size(); ++domain) {
    samples += DomainSamples(dataset, static_cast<int>(domain), options);
  }
  return samples;
}

std::vector<DomainLoss> MeasureDomains(model::Model& model, const sampler::Dataset& dataset,
                                       const PerplexityOptions& options,
                                       const std::function<bool(int64_t)>& keep_going) {
  std::vector<DomainLoss> losses;
  int64_t done = 0;
  for (size_t i = 0; i < dataset.domains().size(); ++i) {
    const int domain = static_cast<int>(i);
    DomainLoss& loss = losses.emplace_back();
    loss.domain = dataset.domains()[i].name;
    const int64_t samples = DomainSamples(dataset, domain, options);
    for (int64_t first = 0; first < samples; first += options.batch_samples) {
      const int64_t count = std::min(options.batch_samples, samples - first);
      const model::BatchResult result =
          model.Evaluate(ReadBatch(dataset, domain, first, count, options.sequence_length));
      for (const double sum : result.sample_loss_sum) loss.loss_sum += sum;
      loss.samples += count;
      loss.tokens += count * result.targets_per_sample;
      done += count;
      if (!keep_going(done)) return losses;
    }
  }
  return losses;
}

}  // namespace moe::evaluation
