// Products of matrices on a device, by LibTorch. Operands are of the type that the model computes
// in; sums that go on (residual stream, gradients) are fp32.
#pragma once

#include <ATen/core/Tensor.h>

namespace moe::model::device {

// x [rows, in] times the transpose of weight [out, in], in their type.
at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight);

// a [m, k] times b [k, n], in fp32: never rounded to a narrower type.
at::Tensor ProductInFp32(const at::Tensor& a, const at::Tensor& b);

// into, fp32 [m, n], += a [m, k] times b [k, n].
void AddProduct(const at::Tensor& a, const at::Tensor& b, const at::Tensor& into);

// Products of groups of rows with a matrix each, where group e ends before row row_ends[e], int32
// on the device, which nobody waits for. Rows after the last group are left undefined, and so is
// the product of an empty group.
//   a [R, k], b [N, k, n]: [R, n];   a [m, R], b [R, n]: [N, m, n]
at::Tensor GroupedProduct(const at::Tensor& a, const at::Tensor& b, const at::Tensor& row_ends);

}  // namespace moe::model::device
