// construct: what its ways have in common: the text, the partition by the method that the job
// names, the shape of the mixture.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/artefacts/model_config.h"
#include "worker/construction/partition_model.h"
#include "worker/rank/job.h"

namespace moe::rank {

// By a method that reads text, from the job's dataset: the neurons dealt[i] of every layer i.
// spec.method is complete; `parameters` is fp32 [P] of `dense`. CANCELLED where a stop was
// requested.
absl::StatusOr<construction::ModelPartition> PartitionByText(
    JobContext& context, const ConstructSpec& spec, const artefacts::ModelConfig& dense,
    const at::Tensor& parameters, const std::vector<construction::Neurons>& dealt);

// About `tokens` training tokens of the dataset that is the input `field`: int64 [B, S] with S 512,
// or the model's context where that is less.
absl::StatusOr<at::Tensor> ReadSample(const JobContext& context, const std::string& field,
                                      int64_t tokens, const artefacts::ModelConfig& dense);

// The mixture's part of the config that `spec`, whose method is complete, describes.
artefacts::MoeConfig ToMoeConfig(const ConstructSpec& spec, const artefacts::ModelConfig& dense);

}  // namespace moe::rank
