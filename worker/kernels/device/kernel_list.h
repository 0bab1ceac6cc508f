// All kernels of the device step, as one type.
#pragma once

#include <variant>

#include "worker/kernels/device/dispatch_kernels.h"
#include "worker/kernels/device/gate_kernels.h"
#include "worker/kernels/device/loss_kernels.h"
#include "worker/kernels/device/norm_kernels.h"
#include "worker/kernels/device/optimizer_kernels.h"
#include "worker/kernels/device/rope_kernel.h"
#include "worker/kernels/device/swiglu_kernels.h"
#include "worker/kernels/device/switch_kernels.h"

namespace moe::kernels::device {

using StepKernel =
    std::variant<RmsNormForward, RmsNormBackward, RmsNormWeightGradient, RotateHeads, DrawNoise,
                 GateForward, GateBackward, BalanceLoss, SwitchForward, SwitchBackward,
                 SwitchBalanceLoss, CountSlots, PlaceRows, GatherRows, CombineRows, ScaleRows,
                 ScaleRowsBackward, AddExpertGradients, SwigluForward, SwigluBackward, CrossEntropy,
                 EmbeddingGradient, AdamW, SumSquares>;

}  // namespace moe::kernels::device
