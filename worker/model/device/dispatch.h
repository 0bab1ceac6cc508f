// Which rows each expert works on, computed and kept on the device.
//
// T tokens, k experts per token, N experts, R = T k rows
// (worker/kernels/device/dispatch_kernels.h).
#pragma once

#include <ATen/core/Tensor.h>

#include "worker/model/device/pass.h"

namespace moe::model::device {

struct Dispatch {
  int64_t top_k = 0;
  at::Tensor row_of_slot;  // int32 [T k], -1 where there is none
  at::Tensor slot_of_row;  // int32 [R]; rows that are nobody's have some slot
  at::Tensor row_ends;     // int32 [N], one past each expert's last row

  int64_t rows() const { return slot_of_row.size(0); }
};

// `order` int32 [T, at least k]: the experts of each token come first; -1 for none.
Dispatch BuildDispatch(const Pass& pass, const at::Tensor& order, int64_t top_k,
                       int64_t num_experts);

// [R, d]: the rows of x [T, d].
at::Tensor Gather(const Pass& pass, const Dispatch& dispatch, const at::Tensor& x);

// fp32 [T, d]: base, unless it is undefined, plus the sum of each token's rows.
at::Tensor Combine(const Pass& pass, const Dispatch& dispatch, const at::Tensor& rows,
                   const at::Tensor& base = {});

}  // namespace moe::model::device
