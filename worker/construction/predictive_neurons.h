// Which neurons of an FFN tell most about what all of it puts out.
//
// T tokens, I neurons, d hidden size.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <vector>

namespace moe::construction {

// The `count` neurons from which linear regression predicts target_Td best, found one at a time,
// each the one that lowers the error most beside those before it; ascending. h_TI are the neurons'
// activations. A neuron that others predict adds nothing, however large it is. Of equals the lower
// comes first. fp32; takes I^2 + 2 I d numbers of memory and count I (d + count) operations.
//
// Source: orthogonal least squares (Chen, Billings and Luo 1989), of many outputs.
std::vector<int64_t> PredictiveNeurons(const at::Tensor& h_TI, const at::Tensor& target_Td,
                                       int64_t count);

}  // namespace moe::construction
