#include "worker/model/batch.h"

#include <algorithm>
#include <stdexcept>

namespace moe::model {

int64_t Batch::num_targets() const {
  return std::count_if(targets.begin(), targets.end(), [](int64_t target) { return target >= 0; });
}

Batch ToBatch(const at::Tensor& tokens_BS) {
  if (tokens_BS.dim() != 2 || tokens_BS.scalar_type() != at::kLong || !tokens_BS.is_contiguous() ||
      !tokens_BS.device().is_cpu()) {
    throw std::invalid_argument("tokens must be a contiguous int64 CPU tensor [B, S]");
  }
  const int64_t length = tokens_BS.size(1);
  const int64_t* sample = tokens_BS.const_data_ptr<int64_t>();
  Batch batch;
  for (int64_t b = 0; b < tokens_BS.size(0); ++b, sample += length) {
    const Batch::Room room = batch.AddSample(length);
    std::copy_n(sample, length, room.tokens);
    if (length > 1) std::copy_n(sample + 1, length - 1, room.targets);
  }
  return batch;
}

std::vector<TokenPlace> PlacesOf(std::span<const int64_t> ends) {
  std::vector<TokenPlace> places;
  places.reserve(ends.empty() ? 0 : static_cast<size_t>(ends.back()));
  int64_t begin = 0;
  for (size_t sample = 0; sample < ends.size(); ++sample) {
    for (int64_t t = begin; t < ends[sample]; ++t) {
      places.push_back({static_cast<int32_t>(sample), static_cast<int32_t>(t - begin)});
    }
    begin = ends[sample];
  }
  return places;
}

}  // namespace moe::model
