#include "worker/model/ffn.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "worker/kernels/gemm.h"
#include "worker/kernels/parallel.h"
#include "worker/kernels/swiglu.h"

namespace moe::model {
namespace {

using kernels::Buffer;
using kernels::CombineRows;
using kernels::Dispatch;
using kernels::GatherRows;
using kernels::Gemm;
using kernels::Matrix;
using kernels::Output;
using kernels::SwiGluBackward;
using kernels::SwiGluForward;

// One expert's rows.
struct ExpertRows {
  int64_t first, count;
};

// Runs body(scratch, expert, rows) for every expert that has rows, side by side: an expert's
// products are too small to share among threads without waiting at every one of them, and its rows
// stay in a core's cache from one product to the next. The largest go first, so that all threads
// end at about the same time.
template <typename Float, typename Body>
void ForEachExpert(const Dispatch& dispatch, FfnScratch<Float>& scratch, const Body& body) {
  const int64_t num_experts = static_cast<int64_t>(dispatch.first_row.size()) - 1;
  auto rows_of = [&](int64_t e) {
    return ExpertRows{dispatch.first_row[e], dispatch.first_row[e + 1] - dispatch.first_row[e]};
  };
  std::vector<int64_t> order(num_experts);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int64_t a, int64_t b) { return rows_of(a).count > rows_of(b).count; });
  scratch.experts.resize(
      std::max<size_t>(scratch.experts.size(), static_cast<size_t>(kernels::NumThreads())));
  kernels::ParallelTasks(num_experts, [&](int64_t worker, int64_t task) {
    const int64_t expert = order[task];
    if (const ExpertRows rows = rows_of(expert); rows.count > 0) {
      body(scratch.experts[worker], expert, rows);
    }
  });
}

void AddBias(const float* bias_d, int64_t tokens, int64_t d, float* y_Td) {
  kernels::ParallelFor(tokens, 64, [=](int64_t begin, int64_t end) {
    for (int64_t t = begin; t < end; ++t) {
      for (int64_t i = 0; i < d; ++i) y_Td[t * d + i] += bias_d[i];
    }
  });
}

// sum_d += the sum of the rows; threads split the columns, so that there is one order of addition.
template <typename Float>
void SumRows(const Float* rows_Td, int64_t tokens, int64_t d, float* sum_d) {
  kernels::ParallelFor(d, 64, [=](int64_t begin, int64_t end) {
    for (int64_t t = 0; t < tokens; ++t) {
      for (int64_t i = begin; i < end; ++i) sum_d[i] += static_cast<float>(rows_Td[t * d + i]);
    }
  });
}

// y_Td += down(silu(gate x) * up x)
template <typename Float>
void SwiGluFfnForward(const Float* gate_up_weight, const Float* down_weight, const Float* x_Td,
                      int64_t tokens, int64_t d, int64_t n, Buffer<Float>& saved_gate_up,
                      FfnScratch<Float>& scratch, float* y_Td) {
  scratch.experts.resize(std::max<size_t>(scratch.experts.size(), 1));
  Float* gate_up = saved_gate_up.Reserve(tokens * 2 * n);
  Float* h = scratch.experts[0].h.Reserve(tokens * n);
  Gemm(Matrix<const Float>(x_Td, tokens, d),
       Matrix<const Float>(gate_up_weight, 2 * n, d).Transposed(), Output::kOverwrite,
       Matrix<Float>(gate_up, tokens, 2 * n));
  SwiGluForward<Float>(gate_up, /*scale=*/nullptr, tokens, n, h);
  Gemm(Matrix<const Float>(h, tokens, n), Matrix<const Float>(down_weight, d, n).Transposed(),
       Output::kAdd, Matrix<float>(y_Td, tokens, d));
}

// Weight gradients are added; `output` says whether dx_Td is.
template <typename Float>
void SwiGluFfnBackward(const Float* gate_up_weight, const Float* down_weight, const Float* x_Td,
                       const Float* dy_Td, int64_t tokens, int64_t d, int64_t n,
                       const Buffer<Float>& saved_gate_up, FfnScratch<Float>& scratch,
                       float* dgate_up_weight, float* ddown_weight, Output output, float* dx_Td) {
  Float* h = scratch.experts[0].h.Reserve(tokens * n);
  Float* dh = scratch.experts[0].dh.Reserve(tokens * n);
  Float* dgate_up = scratch.experts[0].dgate_up.Reserve(tokens * 2 * n);
  const Matrix<const Float> x(x_Td, tokens, d), dy(dy_Td, tokens, d), dgu(dgate_up, tokens, 2 * n);

  Gemm(dy, Matrix<const Float>(down_weight, d, n), Output::kOverwrite,
       Matrix<Float>(dh, tokens, n));
  SwiGluBackward<Float>(dh, saved_gate_up.data(), /*scale=*/nullptr, tokens, n, dgate_up,
                        /*dscale=*/nullptr, h);
  Gemm(dy.Transposed(), Matrix<const Float>(h, tokens, n), Output::kAdd,
       Matrix<float>(ddown_weight, d, n));
  Gemm(dgu.Transposed(), x, Output::kAdd, Matrix<float>(dgate_up_weight, 2 * n, d));
  Gemm(dgu, Matrix<const Float>(gate_up_weight, 2 * n, d), output, Matrix<float>(dx_Td, tokens, d));
}

}  // namespace

template <typename Float>
void DenseFfnForward(const FfnWeights<Float>& weights, const Float* x_Td, int64_t tokens, int64_t d,
                     int64_t n, FfnSaved<Float>& saved, FfnScratch<Float>& scratch, float* y_Td) {
  SwiGluFfnForward(weights.gate_up, weights.down, x_Td, tokens, d, n, saved.gate_up, scratch, y_Td);
}

template <typename Float>
void DenseFfnBackward(const FfnWeights<Float>& weights, const Float* x_Td, const Float* dy_Td,
                      int64_t tokens, int64_t d, int64_t n, const FfnSaved<Float>& saved,
                      FfnScratch<Float>& scratch, const FfnGradients& gradients, float* dx_Td) {
  SwiGluFfnBackward(weights.gate_up, weights.down, x_Td, dy_Td, tokens, d, n, saved.gate_up,
                    scratch, gradients.gate_up, gradients.down, Output::kOverwrite, dx_Td);
}

namespace {

// out_rows [rows, d] = the output of each row's expert, times row_scale [rows].
template <typename Float>
void ExpertsForward(const FfnWeights<Float>& weights, const Dispatch& dispatch, const Float* x_Td,
                    const float* row_scale, int64_t d, int64_t n, FfnSaved<Float>& saved,
                    FfnScratch<Float>& scratch, Float* out_rows) {
  Float* gate_up = saved.gate_up.Reserve(dispatch.rows() * 2 * n);
  ForEachExpert(dispatch, scratch, [&](ExpertScratch<Float>& room, int64_t e, ExpertRows rows) {
    Float* x = room.x.Reserve(rows.count * d);
    Float* h = room.h.Reserve(rows.count * n);
    Float* expert_gate_up = gate_up + rows.first * 2 * n;
    GatherRows(dispatch, rows.first, rows.count, x_Td, d, x);
    Gemm(Matrix<const Float>(x, rows.count, d),
         Matrix<const Float>(weights.gate_up + e * 2 * n * d, 2 * n, d).Transposed(),
         Output::kOverwrite, Matrix<Float>(expert_gate_up, rows.count, 2 * n));
    SwiGluForward<Float>(expert_gate_up, row_scale + rows.first, rows.count, n, h);
    Gemm(Matrix<const Float>(h, rows.count, n),
         Matrix<const Float>(weights.down + e * d * n, d, n).Transposed(), Output::kOverwrite,
         Matrix<Float>(out_rows + rows.first * d, rows.count, d));
  });
}

// The same by the ranks that hold the experts.
template <typename Float>
void SharedOutExpertsForward(const FfnWeights<Float>& weights, const Float* x_Td, int64_t d,
                             int64_t n, FfnSaved<Float>& saved, FfnScratch<Float>& scratch,
                             Float* out_rows) {
  ExpertExchange& exchange = *weights.exchange;
  ExpertRoute& route = saved.route;
  exchange.Plan(saved.dispatch, route);
  const int64_t arrived = route.dispatch.rows();
  Float* x = saved.arrived_x.Reserve(arrived * d);
  float* scale = saved.arrived_scale.Reserve(arrived);
  exchange.SendTokens(route, saved.dispatch, x_Td, d, x);
  exchange.SendNumbers(route, saved.row_scale.data(), scale);
  Float* computed = scratch.computed_d.Reserve(arrived * d);
  ExpertsForward(weights, route.dispatch, x, scale, d, n, saved, scratch, computed);
  exchange.Return(route, computed, d, out_rows);
}

}  // namespace

template <typename Float>
void MoeFfnForward(const artefacts::MoeConfig& config, LoadEstimator estimator,
                   const FfnWeights<Float>& weights, const Float* x_Td, const float* x_fp32_Td,
                   const float* noise_TN, int64_t tokens, int64_t d, FfnSaved<Float>& saved,
                   FfnScratch<Float>& scratch, float* y_Td) {
  const int64_t N = config.num_experts, k = config.top_k, n = config.expert_width;
  GateForward(config, estimator, weights.gate, x_fp32_Td, tokens, d, noise_TN, saved.gate);

  Dispatch& dispatch = saved.dispatch;
  dispatch.Build(saved.gate.indices.data(), tokens, k, N);
  float* row_scale = saved.row_scale.Reserve(dispatch.rows());
  for (int64_t row = 0; row < dispatch.rows(); ++row) {
    row_scale[row] = saved.gate.scores[dispatch.slot_of_row[row]] * weights.scale;
  }

  Float* out_rows = scratch.rows_d.Reserve(dispatch.rows() * d);
  if (weights.exchange == nullptr) {
    ExpertsForward(weights, dispatch, x_Td, row_scale, d, n, saved, scratch, out_rows);
  } else {
    SharedOutExpertsForward(weights, x_Td, d, n, saved, scratch, out_rows);
  }
  CombineRows<Float>(dispatch, out_rows, d, y_Td);
  if (weights.shared_gate_up != nullptr) {
    SwiGluFfnForward(weights.shared_gate_up, weights.shared_down, x_Td, tokens, d,
                     config.shared_width, saved.shared_gate_up, scratch, y_Td);
  }
  if (weights.output_bias != nullptr) AddBias(weights.output_bias, tokens, d, y_Td);
}

namespace {

// From dy, the gradient of the combined rows: dx_rows [rows, d] and dscale [rows], that of
// row_scale, are overwritten; weight gradients are added.
template <typename Float>
void ExpertsBackward(const FfnWeights<Float>& weights, const Dispatch& dispatch, const Float* x_Td,
                     const Float* dy_Td, const float* row_scale, int64_t d, int64_t n,
                     const FfnSaved<Float>& saved, FfnScratch<Float>& scratch,
                     const FfnGradients& gradients, Float* dx_rows, float* dscale) {
  ForEachExpert(dispatch, scratch, [&](ExpertScratch<Float>& room, int64_t e, ExpertRows rows) {
    Float* rows_d = room.x.Reserve(rows.count * d);
    Float* h = room.h.Reserve(rows.count * n);
    Float* dh = room.dh.Reserve(rows.count * n);
    Float* dgate_up = room.dgate_up.Reserve(rows.count * 2 * n);
    const Matrix<const Float> block(rows_d, rows.count, d), dgu(dgate_up, rows.count, 2 * n);

    GatherRows(dispatch, rows.first, rows.count, dy_Td, d, rows_d);
    Gemm(block, Matrix<const Float>(weights.down + e * d * n, d, n), Output::kOverwrite,
         Matrix<Float>(dh, rows.count, n));
    SwiGluBackward<Float>(dh, saved.gate_up.data() + rows.first * 2 * n, row_scale + rows.first,
                          rows.count, n, dgate_up, dscale + rows.first, h);
    Gemm(block.Transposed(), Matrix<const Float>(h, rows.count, n), Output::kAdd,
         Matrix<float>(gradients.down + e * d * n, d, n));

    GatherRows(dispatch, rows.first, rows.count, x_Td, d, rows_d);
    Gemm(dgu.Transposed(), block, Output::kAdd,
         Matrix<float>(gradients.gate_up + e * 2 * n * d, 2 * n, d));
    Gemm(dgu, Matrix<const Float>(weights.gate_up + e * 2 * n * d, 2 * n, d), Output::kOverwrite,
         Matrix<Float>(dx_rows + rows.first * d, rows.count, d));
  });
}

// The same by the ranks that hold the experts, which kept the rows of the forward.
template <typename Float>
void SharedOutExpertsBackward(const FfnWeights<Float>& weights, const Float* dy_Td, int64_t d,
                              int64_t n, const FfnSaved<Float>& saved, FfnScratch<Float>& scratch,
                              const FfnGradients& gradients, Float* dx_rows, float* dscale) {
  ExpertExchange& exchange = *weights.exchange;
  const ExpertRoute& route = saved.route;
  const int64_t arrived = route.dispatch.rows();
  Float* dy = scratch.arrived_dy.Reserve(arrived * d);
  exchange.SendTokens(route, saved.dispatch, dy_Td, d, dy);
  Float* computed = scratch.computed_d.Reserve(arrived * d);
  float* computed_dscale = scratch.computed_dscale.Reserve(arrived);
  ExpertsBackward(weights, route.dispatch, saved.arrived_x.data(), dy, saved.arrived_scale.data(),
                  d, n, saved, scratch, gradients, computed, computed_dscale);
  exchange.Return(route, computed, d, dx_rows);
  exchange.Return(route, computed_dscale, 1, dscale);
}

}  // namespace

template <typename Float>
void MoeFfnBackward(const artefacts::MoeConfig& config, LoadEstimator estimator,
                    const FfnWeights<Float>& weights, const Float* x_Td, const float* x_fp32_Td,
                    const Float* dy_Td, double balance_scale, int64_t tokens, int64_t d,
                    const FfnSaved<Float>& saved, FfnScratch<Float>& scratch,
                    const FfnGradients& gradients, float* dx_Td) {
  const int64_t k = config.top_k, n = config.expert_width;
  const Dispatch& dispatch = saved.dispatch;
  Float* dx_rows = scratch.rows_d.Reserve(dispatch.rows() * d);
  float* dscale = scratch.dscale.Reserve(dispatch.rows());
  if (weights.exchange == nullptr) {
    ExpertsBackward(weights, dispatch, x_Td, dy_Td, saved.row_scale.data(), d, n, saved, scratch,
                    gradients, dx_rows, dscale);
  } else {
    SharedOutExpertsBackward(weights, dy_Td, d, n, saved, scratch, gradients, dx_rows, dscale);
  }

  float* dscores = scratch.dscores.Reserve(tokens * k);
  double scale_gradient = 0;
  for (int64_t slot = 0; slot < tokens * k; ++slot) {
    const int64_t row = dispatch.row_of_slot[slot];
    dscores[slot] = row == Dispatch::kNone ? 0.0f : dscale[row] * weights.scale;
    if (row != Dispatch::kNone) scale_gradient += double{dscale[row]} * saved.gate.scores[slot];
  }
  if (gradients.scale != nullptr) *gradients.scale += static_cast<float>(scale_gradient);
  std::fill_n(dx_Td, tokens * d, 0.0f);
  CombineRows<Float>(dispatch, dx_rows, d, dx_Td);
  if (weights.shared_gate_up != nullptr) {
    SwiGluFfnBackward(weights.shared_gate_up, weights.shared_down, x_Td, dy_Td, tokens, d,
                      config.shared_width, saved.shared_gate_up, scratch, gradients.shared_gate_up,
                      gradients.shared_down, Output::kAdd, dx_Td);
  }
  if (gradients.output_bias != nullptr) SumRows(dy_Td, tokens, d, gradients.output_bias);
  GateBackward(config, estimator, weights.gate, x_fp32_Td, d, saved.gate, dscores, balance_scale,
               gradients.gate, dx_Td);
}

#define MOE_INSTANTIATE(Float)                                                                     \
  template void DenseFfnForward(const FfnWeights<Float>&, const Float*, int64_t, int64_t, int64_t, \
                                FfnSaved<Float>&, FfnScratch<Float>&, float*);                     \
  template void DenseFfnBackward(const FfnWeights<Float>&, const Float*, const Float*, int64_t,    \
                                 int64_t, int64_t, const FfnSaved<Float>&, FfnScratch<Float>&,     \
                                 const FfnGradients&, float*);                                     \
  template void MoeFfnForward(const artefacts::MoeConfig&, LoadEstimator,                          \
                              const FfnWeights<Float>&, const Float*, const float*, const float*,  \
                              int64_t, int64_t, FfnSaved<Float>&, FfnScratch<Float>&, float*);     \
  template void MoeFfnBackward(const artefacts::MoeConfig&, LoadEstimator,                         \
                               const FfnWeights<Float>&, const Float*, const float*, const Float*, \
                               double, int64_t, int64_t, const FfnSaved<Float>&,                   \
                               FfnScratch<Float>&, const FfnGradients&, float*)
MOE_INSTANTIATE(float);
MOE_INSTANTIATE(c10::BFloat16);
#undef MOE_INSTANTIATE

}  // namespace moe::model
