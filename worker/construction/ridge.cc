#include "worker/construction/ridge.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cholesky_solve.h>
#include <ATen/ops/linalg_cholesky.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <limits>
#include <vector>

#include "worker/construction/rows.h"

namespace moe::construction {
namespace {

constexpr double kRidges[] = {1e-3, 1e-2, 1e-1, 1, 10};
constexpr int64_t kHeldOutEvery = 4;

// What least squares needs to know of a part of the tokens, in fp64.
struct Moments {
  at::Tensor gram_FF, product_FR;

  Moments(const at::Tensor& features_TF, const at::Tensor& targets_TR)
      : gram_FF(at::mm(features_TF.t(), features_TF).to(at::kDouble)),
        product_FR(at::mm(features_TF.t(), targets_TR).to(at::kDouble)) {}

  at::Tensor Solve(double ridge) const {
    at::Tensor regularised_FF = gram_FF.clone();
    // A sample on which no feature ever moves still has a solution, zero.
    regularised_FF.diagonal().add_(ridge * gram_FF.diagonal().mean().item<double>() + 1e-30);
    return at::cholesky_solve(product_FR, at::linalg_cholesky(regularised_FF));
  }
  // |A W - targets|^2 - |targets|^2
  double ExcessError(const at::Tensor& weights_FR) const {
    return ((at::mm(gram_FF, weights_FR) - product_FR * 2) * weights_FR).sum().item<double>();
  }
  void Add(const Moments& other) {
    gram_FF.add_(other.gram_FF);
    product_FR.add_(other.product_FR);
  }
};

}  // namespace

at::Tensor RidgeRegression(const at::Tensor& features_TF, const at::Tensor& targets_TR,
                           double ridge) {
  return Moments(features_TF, targets_TR).Solve(ridge).to(at::kFloat);
}

ChosenRidge RidgeThatGeneralises(const at::Tensor& features_TF, const at::Tensor& targets_TR,
                                 int64_t samples) {
  const int64_t T = features_TF.size(0);
  const int64_t piece = std::max<int64_t>(1, T / std::max(samples, kHeldOutEvery));
  std::vector<int64_t> fitted, held_out;
  for (int64_t t = 0; t < T; ++t) {
    (t / piece % kHeldOutEvery == 1 ? held_out : fitted).push_back(t);
  }
  Moments moments(Rows(features_TF, fitted), Rows(targets_TR, fitted));
  const Moments unseen(Rows(features_TF, held_out), Rows(targets_TR, held_out));
  ChosenRidge best{.weights_FR = {}, .ridge = std::numeric_limits<double>::infinity()};
  double best_error = 0;
  for (const double ridge : kRidges) {
    const double error = unseen.ExcessError(moments.Solve(ridge));
    if (error < best_error) {
      best_error = error;
      best.ridge = ridge;
    }
  }
  moments.Add(unseen);
  best.weights_FR = best_error < 0 ? moments.Solve(best.ridge).to(at::kFloat)
                                   : at::zeros_like(moments.product_FR, at::kFloat);
  return best;
}

}  // namespace moe::construction
