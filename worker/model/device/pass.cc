#include "worker/model/device/pass.h"

#include <ATen/ops/empty.h>

#include <algorithm>
#include <numeric>
#include <type_traits>
#include <vector>

namespace moe::model::device {
namespace {

template <typename T>
at::Tensor Copied(const std::vector<T>& values, at::Device device) {
  static_assert(std::is_same_v<T, int64_t> || std::is_same_v<T, int32_t>);
  at::Tensor host =
      at::empty({std::ssize(values)}, std::is_same_v<T, int64_t> ? at::kLong : at::kInt);
  std::copy(values.begin(), values.end(), host.mutable_data_ptr<T>());
  return host.to(device);
}

}  // namespace

DeviceBatch ToDevice(const Batch& batch, const std::vector<TokenPlace>& places,
                     const artefacts::ModelConfig& config, at::Device device) {
  std::vector<int32_t> samples, positions;
  for (const TokenPlace& place : places) {
    samples.push_back(place.sample);
    positions.push_back(place.position);
  }

  std::vector<int32_t> by_id(batch.tokens.size()), ids, id_ends;
  std::iota(by_id.begin(), by_id.end(), 0);
  const auto id_of = [&](int32_t token) { return batch.tokens[static_cast<size_t>(token)]; };
  std::ranges::stable_sort(by_id, {}, id_of);
  for (size_t i = 0; i < by_id.size(); ++i) {
    const auto id = static_cast<int32_t>(id_of(by_id[i]));
    if (ids.empty() || ids.back() != id) {
      ids.push_back(id);
      id_ends.push_back(0);
    }
    id_ends.back() = static_cast<int32_t>(i + 1);
  }

  const std::span<const int64_t> ends = batch.attention_ends();
  std::vector<int32_t> begins = {0};
  for (const int64_t end : ends) begins.push_back(static_cast<int32_t>(end));
  int64_t longest = 0, shortest = batch.num_tokens();
  for (size_t i = 0; i < ends.size(); ++i) {
    longest = std::max<int64_t>(longest, begins[i + 1] - begins[i]);
    shortest = std::min<int64_t>(shortest, begins[i + 1] - begins[i]);
  }

  return {.tokens = Copied(batch.tokens, device),
          .targets = Copied(batch.targets, device),
          .samples = Copied(samples, device),
          .positions = Copied(positions, device),
          .attention = {.shape = {.batch = std::ssize(ends),
                                  .heads = config.num_heads,
                                  .kv_heads = config.num_kv_heads,
                                  .head_dim = config.head_dim,
                                  .ends = ends},
                        .begins = Copied(begins, device),
                        .longest = longest,
                        .is_uniform = longest == shortest},
          .ids = Copied(ids, device),
          .id_ends = Copied(id_ends, device),
          .id_tokens = Copied(by_id, device)};
}

at::Tensor Pass::Empty(at::IntArrayRef shape, at::ScalarType scalar_type) const {
  return at::empty(shape, at::TensorOptions().dtype(scalar_type).device(kernels.device()));
}

}  // namespace moe::model::device
