#include "worker/model/device/norm.h"

#include <ATen/ops/sum.h>

namespace moe::model::device {

namespace kd = kernels::device;

Normed Norm(const Pass& pass, const at::Tensor& x, const at::Tensor& weight, NormOutput output) {
  const int64_t rows = x.size(0), d = x.size(1);
  Normed result = {.y = pass.Empty({rows, d}, pass.type), .rstd = pass.EmptyFp32({rows})};
  const bool is_rounded = pass.type != at::kFloat;
  if (output == NormOutput::kBoth && is_rounded) result.y_fp32 = pass.EmptyFp32({rows, d});
  pass.kernels.Run(kd::RmsNormForward{.rows = rows,
                                      .type = kd::TypeOf(result.y),
                                      .d = d,
                                      .eps = static_cast<float>(pass.config.rms_norm_eps),
                                      .x = DataOf<float>(x),
                                      .weight = DataOf<float>(weight),
                                      .y = result.y.mutable_data_ptr(),
                                      .y_fp32 = MutableDataOf<float>(result.y_fp32),
                                      .rstd = MutableDataOf<float>(result.rstd)});
  if (!is_rounded) result.y_fp32 = result.y;
  return result;
}

void NormBackward(const Pass& pass, const at::Tensor& dy, const at::Tensor& x,
                  const at::Tensor& weight, const at::Tensor& rstd, const at::Tensor& dx,
                  const at::Tensor& dweight) {
  const int64_t rows = x.size(0), d = x.size(1);
  const int64_t parts = kd::PartsOf(rows, kd::RmsNormWeightGradient::kRowsPerPart);
  const at::Tensor partial = pass.EmptyFp32({parts, d});
  pass.kernels.Run(kd::RmsNormWeightGradient{.rows = parts,
                                             .d = d,
                                             .num_rows = rows,
                                             .dy = DataOf<float>(dy),
                                             .x = DataOf<float>(x),
                                             .rstd = DataOf<float>(rstd),
                                             .partial = MutableDataOf<float>(partial)});
  dweight.add_(at::sum(partial, {0}));
  pass.kernels.Run(kd::RmsNormBackward{.rows = rows,
                                       .d = d,
                                       .dy = DataOf<float>(dy),
                                       .x = DataOf<float>(x),
                                       .weight = DataOf<float>(weight),
                                       .rstd = DataOf<float>(rstd),
                                       .dx = MutableDataOf<float>(dx)});
}

}  // namespace moe::model::device
