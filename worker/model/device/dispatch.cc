#include "worker/model/device/dispatch.h"

#include <ATen/ops/cumsum.h>
#include <ATen/ops/zeros.h>

namespace moe::model::device {

namespace kd = kernels::device;

Dispatch BuildDispatch(const Pass& pass, const at::Tensor& order, int64_t top_k,
                       int64_t num_experts) {
  const int64_t slots = order.size(0) * top_k, blocks = kd::PartsOf(slots, kd::kSlotsPerBlock);
  const kd::Choices choices = {.order = DataOf<int32_t>(order),
                               .top_k = static_cast<int32_t>(top_k),
                               .stride = static_cast<int32_t>(order.size(1))};
  const at::Tensor counts = pass.Empty({num_experts, blocks}, at::kInt);
  pass.kernels.Run(kd::CountSlots{.rows = blocks,
                                  .num_slots = slots,
                                  .num_experts = static_cast<int32_t>(num_experts),
                                  .choices = choices,
                                  .counts = MutableDataOf<int32_t>(counts)});
  // Experts come one after the other, and of each its blocks.
  const at::Tensor ends = at::cumsum(counts.view({-1}), 0).view({num_experts, blocks});
  Dispatch dispatch = {.top_k = top_k,
                       .row_of_slot = pass.Empty({slots}, at::kInt),
                       .slot_of_row = at::zeros({slots}, counts.options()),
                       .row_ends = ends.select(1, blocks - 1).to(at::kInt)};
  pass.kernels.Run(kd::PlaceRows{.rows = blocks,
                                 .num_slots = slots,
                                 .num_experts = static_cast<int32_t>(num_experts),
                                 .choices = choices,
                                 .counts = DataOf<int32_t>(counts),
                                 .ends = DataOf<int64_t>(ends),
                                 .row_of_slot = MutableDataOf<int32_t>(dispatch.row_of_slot),
                                 .slot_of_row = MutableDataOf<int32_t>(dispatch.slot_of_row)});
  return dispatch;
}

at::Tensor Gather(const Pass& pass, const Dispatch& dispatch, const at::Tensor& x) {
  at::Tensor rows = pass.Empty({dispatch.rows(), x.size(1)}, x.scalar_type());
  pass.kernels.Run(kd::GatherRows{.rows = dispatch.rows(),
                                  .type = kd::TypeOf(x),
                                  .d = x.size(1),
                                  .top_k = static_cast<int32_t>(dispatch.top_k),
                                  .slot_of_row = DataOf<int32_t>(dispatch.slot_of_row),
                                  .x = x.const_data_ptr(),
                                  .to = rows.mutable_data_ptr()});
  return rows;
}

at::Tensor Combine(const Pass& pass, const Dispatch& dispatch, const at::Tensor& rows,
                   const at::Tensor& base) {
  const int64_t tokens = dispatch.rows() / dispatch.top_k, d = rows.size(1);
  at::Tensor y = pass.EmptyFp32({tokens, d});
  pass.kernels.Run(kd::CombineRows{.rows = tokens,
                                   .type = kd::TypeOf(rows),
                                   .d = d,
                                   .top_k = static_cast<int32_t>(dispatch.top_k),
                                   .row_of_slot = DataOf<int32_t>(dispatch.row_of_slot),
                                   .from = rows.const_data_ptr(),
                                   .base = DataOf<float>(base),
                                   .y = MutableDataOf<float>(y)});
  return y;
}

}  // namespace moe::model::device
