// The text that importance is measured on, in groups.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "sampler/dataset.h"
#include "worker/construction/importance.h"

namespace moe::construction {

struct TextGroupOptions {
  int64_t samples_per_group = 16;
  int64_t sequence_length = 512;
  uint64_t seed = 0;
};

// One group per domain of the dataset, in its order: the first samples of its training text.
// INVALID_ARGUMENT where a domain has none.
absl::StatusOr<std::vector<TextGroup>> GroupsByDomain(const sampler::Dataset& dataset,
                                                      const TextGroupOptions& options);

// `num_groups` groups of equal size: samples of all domains alike, put together by balanced k-means
// over the mean of their tokens' embeddings. `embed_Vd` is the dense model's, fp32. The published
// code clusters sentence embeddings of another model instead. INVALID_ARGUMENT where the dataset
// has less than one sample per group.
absl::StatusOr<std::vector<TextGroup>> GroupsByCluster(const sampler::Dataset& dataset,
                                                       const at::Tensor& embed_Vd,
                                                       int64_t num_groups,
                                                       const TextGroupOptions& options);

}  // namespace moe::construction
