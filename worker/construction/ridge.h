// Linear regression that does not learn a small sample by heart.
//
// T tokens, F features, R results.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>

namespace moe::construction {

// argmin_W |A W - targets|^2 + ridge mean(diag A^T A) |W|^2, [F, R], solved in fp64.
at::Tensor RidgeRegression(const at::Tensor& features_TF, const at::Tensor& targets_TR,
                           double ridge);

struct ChosenRidge {
  at::Tensor weights_FR;
  double ridge = 0;  // infinite where nothing predicts better than zero does
};

// The same with the ridge, of a few from 1e-3 to 10, that predicts best what it was not fitted to:
// every fourth of the `samples` equally long pieces that the tokens are (of four, where there are
// fewer). The weights are then fitted to all tokens.
ChosenRidge RidgeThatGeneralises(const at::Tensor& features_TF, const at::Tensor& targets_TR,
                                 int64_t samples);

}  // namespace moe::construction
