#include "worker/construction/fit_layer.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/index_select.h>
#include <ATen/ops/linalg_vector_norm.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/ones.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/stack.h>
#include <ATen/ops/topk.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <vector>

#include "worker/construction/ridge.h"

namespace moe::construction {
namespace {

// Enough against a few thousand tokens of few independent directions; what the gate tells apart
// does not depend on it.
constexpr double kGateRidge = 1e-2;
// The least scale, as a share of k, where least squares asks for none at all: the experts stay in
// the model for training to find a use for.
constexpr double kLeastScale = 1e-2;

at::Tensor Columns(const at::Tensor& matrix, const std::vector<int64_t>& columns) {
  const at::Tensor index = at::from_blob(const_cast<int64_t*>(columns.data()),
                                         {static_cast<int64_t>(columns.size())}, at::kLong);
  return at::index_select(matrix, 1, index);
}

double Dot(const at::Tensor& a, const at::Tensor& b) { return (a * b).sum().item<double>(); }

// The gate, and the k experts' scores that it gives on the sample, 0 elsewhere: [T, N].
struct FittedGate {
  at::Tensor weight_Nd;
  at::Tensor scores_TN;
};

FittedGate FitGate(const at::Tensor& x_Td, const at::Tensor& norms_TN, int64_t top_k) {
  const at::Tensor centred_TN = norms_TN - norms_TN.mean(1, /*keepdim=*/true);
  at::Tensor weight_dN = RidgeRegression(x_Td, centred_TN, kGateRidge);
  at::Tensor logits_TN = at::mm(x_Td, weight_dN);
  const double spread = logits_TN.std().item<double>();
  if (spread > 0) {
    weight_dN.div_(spread);
    logits_TN.div_(spread);
  }
  const auto [best_Tk, index_Tk] = logits_TN.topk(top_k, 1);
  const at::Tensor scores_TN =
      at::zeros_like(logits_TN).scatter_(1, index_Tk, at::softmax(best_Tk, 1));
  return {.weight_Nd = weight_dN.t().contiguous(), .scores_TN = scores_TN};
}

// What the routed experts put out before the scale, [T, d].
at::Tensor Routed(const DenseFfn& dense, const LayerPartition& partition,
                  const at::Tensor& scores_TN) {
  at::Tensor sum_Td = at::zeros_like(dense.x_Td);
  for (int64_t e = 0; e < std::ssize(partition.experts); ++e) {
    const std::vector<int64_t>& neurons = partition.experts[e];
    const at::Tensor h_Tn = Columns(dense.h_TI, neurons) * scores_TN.narrow(1, e, 1);
    sum_Td.addmm_(h_Tn, Columns(dense.down_dI, neurons).t());
  }
  return sum_Td;
}

at::Tensor OutputNorms(const DenseFfn& dense, const LayerPartition& partition) {
  at::Tensor norms_TN =
      at::empty({dense.h_TI.size(0), std::ssize(partition.experts)}, dense.h_TI.options());
  for (int64_t e = 0; e < std::ssize(partition.experts); ++e) {
    const std::vector<int64_t>& neurons = partition.experts[e];
    const at::Tensor y_Td =
        at::mm(Columns(dense.h_TI, neurons), Columns(dense.down_dI, neurons).t());
    norms_TN.select(1, e).copy_(at::linalg_vector_norm(y_Td, 2, at::IntArrayRef{1}));
  }
  return norms_TN;
}

// Scale, shared down projection and constant vector; and what all of it puts out.
void FitOutput(const FitOptions& options, const DenseFfn& dense, const LayerPartition& partition,
               const at::Tensor& scores_TN, const at::Tensor& dense_Td, FittedLayer& layer) {
  const int64_t T = dense.h_TI.size(0), d = dense.down_dI.size(0), m = std::ssize(partition.shared);
  // dense = shared + scale routed + features W, least squares in scale and W. W is eliminated
  // first: what the features predict is taken out of both sides.
  const at::Tensor routed_Td = Routed(dense, partition, scores_TN);
  at::Tensor base_Td = at::zeros_like(dense_Td), h_Tm;
  std::vector<at::Tensor> features;
  if (m > 0) {
    h_Tm = Columns(dense.h_TI, partition.shared);
    layer.shared_down_dm = Columns(dense.down_dI, partition.shared);
    base_Td = at::mm(h_Tm, layer.shared_down_dm.t());
    if (options.compensate) features.push_back(h_Tm);
  }
  if (options.mean_vector) {
    // As large as the other features, so that the ridge treats it as one of them.
    const double size = m > 0 ? std::max(h_Tm.pow(2).mean().sqrt().item<double>(), 1e-6) : 1.0;
    features.push_back(at::ones({T, 1}, dense_Td.options()).mul_(size));
  }
  at::Tensor rest_Td = dense_Td - base_Td;
  at::Tensor rest_left = rest_Td, routed_left = routed_Td, features_TF, weights_F2d;
  if (!features.empty()) {
    features_TF = at::cat(features, 1);
    weights_F2d = RidgeThatGeneralises(features_TF, at::cat({rest_Td, routed_Td}, 1), dense.samples)
                      .weights_FR;
    const at::Tensor predicted = at::mm(features_TF, weights_F2d);
    rest_left = rest_Td - predicted.narrow(1, 0, d);
    routed_left = routed_Td - predicted.narrow(1, d, d);
  }
  const double least = kLeastScale * static_cast<double>(options.top_k);
  const double energy = Dot(routed_left, routed_left);
  layer.scale = energy > 0 ? std::max(Dot(rest_left, routed_left) / energy, least) : least;
  layer.y_Td = base_Td + routed_Td * layer.scale;
  if (features.empty()) return;
  const at::Tensor weights_Fd =
      weights_F2d.narrow(1, 0, d) - weights_F2d.narrow(1, d, d) * layer.scale;
  layer.y_Td.add_(at::mm(features_TF, weights_Fd));
  if (m > 0 && options.compensate) {
    layer.shared_down_dm = layer.shared_down_dm + weights_Fd.narrow(0, 0, m).t();
  }
  if (options.mean_vector) {
    layer.output_bias_d =
        weights_Fd.select(0, weights_Fd.size(0) - 1) * features.back().select(0, 0);
  }
}

// The experts' down projections, shared and routed, from what FitOutput left.
void FitExperts(const FitOptions& options, const DenseFfn& dense, const LayerPartition& partition,
                const at::Tensor& scores_TN, const at::Tensor& dense_Td, FittedLayer& layer) {
  const int64_t N = std::ssize(partition.experts), m = std::ssize(partition.shared);
  const bool with_shared = options.compensate && m > 0;
  std::vector<at::Tensor> features, down;
  if (with_shared) features.push_back(Columns(dense.h_TI, partition.shared));
  for (int64_t e = 0; e < N; ++e) {
    const Neurons& neurons = partition.experts[e];
    features.push_back(Columns(dense.h_TI, neurons).mul_(scores_TN.narrow(1, e, 1)));
    down.push_back(Columns(dense.down_dI, neurons));
  }
  const at::Tensor features_TF = at::cat(features, 1);
  const at::Tensor weights_Fd =
      RidgeThatGeneralises(features_TF, dense_Td - layer.y_Td, dense.samples).weights_FR;
  layer.y_Td.add_(at::mm(features_TF, weights_Fd));
  int64_t first = 0;
  if (with_shared) {
    layer.shared_down_dm = layer.shared_down_dm + weights_Fd.narrow(0, 0, m).t();
    first = m;
  }
  for (at::Tensor& down_dn : down) {
    const int64_t n = down_dn.size(1);
    // The layer's scale multiplies the routed experts.
    down_dn.add_(weights_Fd.narrow(0, first, n).t(), /*alpha=*/1 / layer.scale);
    first += n;
  }
  layer.experts_down_Ndn = at::stack(down);
}

}  // namespace

FittedLayer FitLayer(const FitOptions& options, const DenseFfn& dense,
                     const LayerPartition& partition) {
  const FittedGate gate = FitGate(dense.x_Td, OutputNorms(dense, partition), options.top_k);
  const at::Tensor dense_Td = at::mm(dense.h_TI, dense.down_dI.t());
  FittedLayer layer;
  layer.gate_Nd = gate.weight_Nd;
  FitOutput(options, dense, partition, gate.scores_TN, dense_Td, layer);
  if (options.fit_experts) FitExperts(options, dense, partition, gate.scores_TN, dense_Td, layer);
  const double total = Dot(dense_Td, dense_Td);
  const at::Tensor error_Td = layer.y_Td - dense_Td;
  layer.relative_error = total > 0 ? Dot(error_Td, error_Td) / total : 0;
  return layer;
}

}  // namespace moe::construction
