// Some rows of a matrix.
#pragma once

#include <ATen/core/Tensor.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>

#include <cstdint>
#include <vector>

namespace moe::construction {

// [rows.size(), ...]: copies, in the order of `rows`.
inline at::Tensor Rows(const at::Tensor& matrix, const std::vector<int64_t>& rows) {
  const at::Tensor index = at::from_blob(const_cast<int64_t*>(rows.data()),
                                         {static_cast<int64_t>(rows.size())}, at::kLong);
  return at::index_select(matrix, 0, index);
}

// Of [T, d], the tokens of some of `count` equally long samples.
inline at::Tensor SamplesOf(const at::Tensor& x_Td, int64_t count,
                            const std::vector<int64_t>& samples) {
  return Rows(x_Td.reshape({count, -1, x_Td.size(1)}), samples).reshape({-1, x_Td.size(1)});
}

}  // namespace moe::construction
