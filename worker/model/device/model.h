// The model on a device: the same passes as the CPU's fast path, over the kernels of any device.
//
// Nothing in a pass waits for the device but its end, where losses and routing come back: which
// rows go to which expert is decided and kept there.
#pragma once

#include <memory>

#include "storage/artefacts/model_config.h"
#include "worker/model/model_impl.h"

namespace moe::model::device {

// std::invalid_argument where the config does not fit together, or is not for devices: experts
// shared out among ranks, and widths whose rows do not begin at multiples of 16 bytes.
std::unique_ptr<Model::Impl> MakeModel(const artefacts::ModelConfig& config,
                                       const ModelOptions& options);

}  // namespace moe::model::device
