#include "worker/model/device/linear.h"

#include <ATen/ops/_grouped_mm.h>
#include <ATen/ops/addmm.h>
#include <ATen/ops/mm.h>

namespace moe::model::device {
namespace {

// LibTorch has products of bf16 matrices with an fp32 result for CUDA alone; elsewhere operands are
// widened, which gives the same but for the order of additions.
bool WritesFp32(const at::Tensor& a) { return a.is_cuda() || a.scalar_type() == at::kFloat; }

}  // namespace

at::Tensor Linear(const at::Tensor& x, const at::Tensor& weight) { return at::mm(x, weight.t()); }

at::Tensor ProductInFp32(const at::Tensor& a, const at::Tensor& b) {
  if (a.scalar_type() == at::kFloat) return at::mm(a, b);
  return WritesFp32(a) ? at::mm(a, b, at::kFloat) : at::mm(a.to(at::kFloat), b.to(at::kFloat));
}

void AddProduct(const at::Tensor& a, const at::Tensor& b, const at::Tensor& into) {
  at::Tensor sum = into;
  if (a.scalar_type() == at::kFloat) {
    at::addmm_out(sum, into, a, b);
  } else if (WritesFp32(a)) {
    at::addmm_out(sum, into, a, b, at::kFloat);
  } else {
    at::addmm_out(sum, into, a.to(at::kFloat), b.to(at::kFloat));
  }
}

at::Tensor GroupedProduct(const at::Tensor& a, const at::Tensor& b, const at::Tensor& row_ends) {
  return at::_grouped_mm(a, b, row_ends);
}

}  // namespace moe::model::device
