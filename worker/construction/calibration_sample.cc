#include "worker/construction/calibration_sample.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <vector>

#include "common/status.h"

namespace moe::construction {

absl::StatusOr<at::Tensor> CalibrationSample(const sampler::Dataset& dataset, int64_t tokens,
                                             int64_t sequence_length) {
  using sampler::Split;
  struct Domain {
    int index;
    int64_t available, taken = 0;
  };
  std::vector<Domain> domains;
  int64_t available = 0;
  for (int i = 0; i < std::ssize(dataset.domains()); ++i) {
    const int64_t samples = dataset.NumSamples(Split::kTrain, i, sequence_length);
    if (samples > 0) domains.push_back({.index = i, .available = samples});
    available += samples;
  }
  if (domains.empty()) {
    return InvalidArgument(
        "no domain of the calibration dataset has {} training tokens, one sample; prepare more "
        "text",
        sequence_length);
  }
  const int64_t wanted =
      std::min(std::max<int64_t>(1, (tokens + sequence_length - 1) / sequence_length), available);
  // In turns, so that what a short domain lacks comes from the others.
  for (int64_t left = wanted; left > 0;) {
    for (Domain& domain : domains) {
      if (left == 0 || domain.taken == domain.available) continue;
      ++domain.taken;
      --left;
    }
  }
  at::Tensor sample_BS = at::empty({wanted, sequence_length}, at::kLong);
  int64_t* out = sample_BS.mutable_data_ptr<int64_t>();
  for (const Domain& domain : domains) {
    for (int64_t i = 0; i < domain.taken; ++i, out += sequence_length) {
      dataset.ReadSample(Split::kTrain, domain.index, i * domain.available / domain.taken,
                         sequence_length, out);
    }
  }
  return sample_BS;
}

}  // namespace moe::construction
