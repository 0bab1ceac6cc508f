#include "worker/construction/text_groups.h"

#include <ATen/ops/empty.h>
#include <ATen/ops/index_select.h>

#include <algorithm>

#include "common/status.h"
#include "worker/construction/balanced_kmeans.h"

namespace moe::construction {
namespace {

using sampler::Split;

// Beyond all layers', whose draws have the same seed.
constexpr uint32_t kTextStream = 1 << 20;

at::Tensor ReadSample(const sampler::Dataset& dataset, int domain, int64_t index, int64_t length) {
  at::Tensor sample_S = at::empty({length}, at::kLong);
  dataset.ReadSample(Split::kTrain, domain, index, length, sample_S.mutable_data_ptr<int64_t>());
  return sample_S;
}

// Up to `count` samples, from the domains in turn.
TextGroup ReadInTurn(const sampler::Dataset& dataset, int64_t count, int64_t length) {
  TextGroup samples;
  const int domains = static_cast<int>(dataset.domains().size());
  bool more = true;
  for (int64_t index = 0; more; ++index) {
    more = false;
    for (int domain = 0; domain < domains; ++domain) {
      if (index >= dataset.NumSamples(Split::kTrain, domain, length)) continue;
      if (static_cast<int64_t>(samples.size()) == count) return samples;
      samples.push_back(ReadSample(dataset, domain, index, length));
      more = true;
    }
  }
  return samples;
}

}  // namespace

absl::StatusOr<std::vector<TextGroup>> GroupsByDomain(const sampler::Dataset& dataset,
                                                      const TextGroupOptions& options) {
  std::vector<TextGroup> groups;
  for (size_t i = 0; i < dataset.domains().size(); ++i) {
    const int domain = static_cast<int>(i);
    const int64_t available = dataset.NumSamples(Split::kTrain, domain, options.sequence_length);
    if (available == 0) {
      return InvalidArgument(
          "the domain {} has {} training tokens, less than one sample of importance."
          "sequence_length={}; use a smaller one or give the domain more text",
          dataset.domains()[i].name, dataset.domains()[i].train_tokens, options.sequence_length);
    }
    TextGroup& group = groups.emplace_back();
    for (int64_t s = 0; s < std::min(available, options.samples_per_group); ++s) {
      group.push_back(ReadSample(dataset, domain, s, options.sequence_length));
    }
  }
  return groups;
}

absl::StatusOr<std::vector<TextGroup>> GroupsByCluster(const sampler::Dataset& dataset,
                                                       const at::Tensor& embed_Vd,
                                                       int64_t num_groups,
                                                       const TextGroupOptions& options) {
  TextGroup samples =
      ReadInTurn(dataset, num_groups * options.samples_per_group, options.sequence_length);
  const int64_t per_group = static_cast<int64_t>(samples.size()) / num_groups;
  if (per_group == 0) {
    return InvalidArgument(
        "the dataset has {} training samples of importance.sequence_length={}, less than one for "
        "each of {} groups; use a smaller length or more text",
        samples.size(), options.sequence_length, num_groups);
  }
  samples.resize(per_group * num_groups);
  const int64_t d = embed_Vd.size(1);
  std::vector<float> means_nd;
  for (const at::Tensor& sample : samples) {
    const at::Tensor mean = at::index_select(embed_Vd, 0, sample).mean(0).contiguous();
    means_nd.insert(means_nd.end(), mean.const_data_ptr<float>(), mean.const_data_ptr<float>() + d);
  }
  NormaliseRows(means_nd.data(), static_cast<int64_t>(samples.size()), d);
  const Clustering clustering =
      BalancedKMeans(means_nd, d, num_groups, {.seed = options.seed, .stream = kTextStream});
  std::vector<TextGroup> groups(num_groups);
  for (size_t s = 0; s < samples.size(); ++s) {
    groups[clustering.cluster[s]].push_back(std::move(samples[s]));
  }
  return groups;
}

}  // namespace moe::construction
