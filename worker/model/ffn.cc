#include "worker/model/ffn.h"

#include <algorithm>
#include <functional>
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

// A part of one expert's rows, or of the columns of its weight gradients.
struct ExpertPart {
  int64_t expert, begin, count;
};

// Rows of a part: so many that a part's rows and the expert's weights fit a core's second cache
// together, and many experts of few rows or few of many keep all threads busy alike.
constexpr int64_t kPartRows = 256;
// Columns of the hidden size.
constexpr int64_t kPartCols = 320;

// [begin, end) of an expert in equal parts of at most `most`.
void AddParts(int64_t expert, int64_t begin, int64_t end, int64_t most,
              std::vector<ExpertPart>& parts) {
  const int64_t count = (end - begin + most - 1) / most;
  for (int64_t i = 0; i < count; ++i) {
    const int64_t from = begin + (end - begin) * i / count;
    parts.push_back({expert, from, begin + (end - begin) * (i + 1) / count - from});
  }
}

// Runs body(part) side by side. An expert's products are too small to share among threads without
// waiting at every one of them.
template <typename Body>
void ForEachPart(const std::vector<ExpertPart>& parts, const Body& body) {
  kernels::ParallelTasks(std::ssize(parts),
                         [&](int64_t /*worker*/, int64_t task) { body(parts[task]); });
}

int64_t NumExperts(const Dispatch& dispatch) { return std::ssize(dispatch.first_row) - 1; }

template <typename Body>
void ForEachRowBlock(const Dispatch& dispatch, const Body& body) {
  std::vector<ExpertPart> parts;
  for (int64_t e = 0; e < NumExperts(dispatch); ++e) {
    AddParts(e, dispatch.first_row[e], dispatch.first_row[e + 1], kPartRows, parts);
  }
  ForEachPart(parts, body);
}

// Experts with the most rows first, so that all threads end at about the same time.
template <typename Body>
void ForEachColumnBlock(const Dispatch& dispatch, int64_t cols, const Body& body) {
  std::vector<int64_t> order(NumExperts(dispatch));
  std::iota(order.begin(), order.end(), 0);
  const auto rows = [&](int64_t e) { return dispatch.first_row[e + 1] - dispatch.first_row[e]; };
  std::ranges::stable_sort(order, std::ranges::greater(), rows);
  std::vector<ExpertPart> parts;
  for (const int64_t e : order) {
    if (rows(e) > 0) AddParts(e, 0, cols, kPartCols, parts);
  }
  ForEachPart(parts, body);
}

// How an expert's weights stand on the right of its products.
enum class Side { kForward, kBackward };  // transposed, or as stored

template <typename Float>
void PrepareExperts(const FfnWeights<Float>& weights, const Dispatch& dispatch, int64_t d,
                    int64_t n, Side side, FfnScratch<Float>& scratch) {
  const size_t experts = static_cast<size_t>(NumExperts(dispatch));
  scratch.gate_up_weights.resize(experts);
  scratch.down_weights.resize(experts);
  const auto as = [side](const Matrix<const Float>& weight) {
    return side == Side::kForward ? weight.Transposed() : weight;
  };
  kernels::ParallelTasks(NumExperts(dispatch), [&](int64_t /*worker*/, int64_t e) {
    if (dispatch.first_row[e] == dispatch.first_row[e + 1]) return;
    scratch.gate_up_weights[e].Prepare(
        as(Matrix<const Float>(weights.gate_up + e * 2 * n * d, 2 * n, d)));
    scratch.down_weights[e].Prepare(as(Matrix<const Float>(weights.down + e * d * n, d, n)));
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
  Float* gate_up = saved_gate_up.Reserve(tokens * 2 * n);
  Float* h = scratch.h.Reserve(tokens * n);
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
  Float* h = scratch.h.Reserve(tokens * n);
  Float* dh = scratch.dh.Reserve(tokens * n);
  Float* dgate_up = scratch.dgate_up.Reserve(tokens * 2 * n);
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

// out_rows [rows, d] = the output of each row's expert, times row_scale [rows], on rows of x.
template <typename Float>
void ExpertsForward(const FfnWeights<Float>& weights, const Dispatch& dispatch,
                    const Matrix<const Float>& x, const float* row_scale, int64_t n,
                    FfnSaved<Float>& saved, FfnScratch<Float>& scratch, Float* out_rows) {
  const int64_t d = x.cols;
  Float* gate_up = saved.gate_up.Reserve(dispatch.rows() * 2 * n);
  Float* h = scratch.h.Reserve(dispatch.rows() * n);
  PrepareExperts(weights, dispatch, d, n, Side::kForward, scratch);
  ForEachRowBlock(dispatch, [&](const ExpertPart& rows) {
    thread_local Buffer<Float> gathered;
    const int64_t count = rows.count;
    Float* x_rows = gathered.Reserve(count * d);
    GatherRows(dispatch, rows.begin, count, x, x_rows);
    Gemm(Matrix<const Float>(x_rows, count, d), scratch.gate_up_weights[rows.expert],
         Output::kOverwrite, Matrix<Float>(gate_up + rows.begin * 2 * n, count, 2 * n));
    SwiGluForward<Float>(gate_up + rows.begin * 2 * n, row_scale + rows.begin, count, n,
                         h + rows.begin * n);
    Gemm(Matrix<const Float>(h + rows.begin * n, count, n), scratch.down_weights[rows.expert],
         Output::kOverwrite, Matrix<Float>(out_rows + rows.begin * d, count, d));
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
  ExpertsForward(weights, route.dispatch, Matrix<const Float>(x, arrived, d), scale, n, saved,
                 scratch, computed);
  exchange.Return(route, computed, d, out_rows);
}

// From dy, the gradient of the combined rows: dx_rows [rows, d] and dscale [rows], that of
// row_scale, are overwritten; weight gradients are added.
template <typename Float>
void ExpertsBackward(const FfnWeights<Float>& weights, const Dispatch& dispatch,
                     const Matrix<const Float>& x, const Matrix<const Float>& dy,
                     const float* row_scale, int64_t n, const FfnSaved<Float>& saved,
                     FfnScratch<Float>& scratch, const FfnGradients& gradients, Float* dx_rows,
                     float* dscale) {
  const int64_t d = x.cols;
  Float* h = scratch.h.Reserve(dispatch.rows() * n);
  Float* dh = scratch.dh.Reserve(dispatch.rows() * n);
  Float* dgate_up = scratch.dgate_up.Reserve(dispatch.rows() * 2 * n);
  PrepareExperts(weights, dispatch, d, n, Side::kBackward, scratch);
  ForEachRowBlock(dispatch, [&](const ExpertPart& rows) {
    thread_local Buffer<Float> gathered;
    const int64_t count = rows.count;
    Float* dy_rows = gathered.Reserve(count * d);
    Float* dgate_up_rows = dgate_up + rows.begin * 2 * n;
    GatherRows(dispatch, rows.begin, count, dy, dy_rows);
    Gemm(Matrix<const Float>(dy_rows, count, d), scratch.down_weights[rows.expert],
         Output::kOverwrite, Matrix<Float>(dh + rows.begin * n, count, n));
    SwiGluBackward<Float>(dh + rows.begin * n, saved.gate_up.data() + rows.begin * 2 * n,
                          row_scale + rows.begin, count, n, dgate_up_rows, dscale + rows.begin,
                          h + rows.begin * n);
    Gemm(Matrix<const Float>(dgate_up_rows, count, 2 * n), scratch.gate_up_weights[rows.expert],
         Output::kOverwrite, Matrix<Float>(dx_rows + rows.begin * d, count, d));
  });
  ForEachColumnBlock(dispatch, d, [&](const ExpertPart& cols) {
    thread_local Buffer<Float> gathered;
    const int64_t e = cols.expert, first = dispatch.first_row[e];
    const int64_t count = dispatch.first_row[e + 1] - first;
    Float* rows = gathered.Reserve(count * cols.count);
    const Matrix<const Float> block(rows, count, cols.count);
    GatherRows(dispatch, first, count, x.Columns(cols.begin, cols.count), rows);
    Gemm(
        Matrix<const Float>(dgate_up + first * 2 * n, count, 2 * n).Transposed(), block,
        Output::kAdd,
        Matrix<float>(gradients.gate_up + e * 2 * n * d, 2 * n, d).Columns(cols.begin, cols.count));
    GatherRows(dispatch, first, count, dy.Columns(cols.begin, cols.count), rows);
    Gemm(block.Transposed(), Matrix<const Float>(h + first * n, count, n), Output::kAdd,
         Matrix<float>(gradients.down + (e * d + cols.begin) * n, cols.count, n));
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
  ExpertsBackward(weights, route.dispatch, Matrix<const Float>(saved.arrived_x.data(), arrived, d),
                  Matrix<const Float>(dy, arrived, d), saved.arrived_scale.data(), n, saved,
                  scratch, gradients, computed, computed_dscale);
  exchange.Return(route, computed, d, dx_rows);
  exchange.Return(route, computed_dscale, 1, dscale);
}

}  // namespace

template <typename Float>
void MoeFfnForward(const artefacts::MoeConfig& config, LoadEstimator estimator,
                   const FfnWeights<Float>& weights, const Float* x_Td, const float* x_fp32_Td,
                   const float* noise_TN, const float* residual_Td, int64_t tokens, int64_t d,
                   FfnSaved<Float>& saved, FfnScratch<Float>& scratch, float* y_Td) {
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
    ExpertsForward(weights, dispatch, Matrix<const Float>(x_Td, tokens, d), row_scale, n, saved,
                   scratch, out_rows);
  } else {
    SharedOutExpertsForward(weights, x_Td, d, n, saved, scratch, out_rows);
  }
  CombineRows<Float>(dispatch, out_rows, d, residual_Td, y_Td);
  if (weights.shared_gate_up != nullptr) {
    SwiGluFfnForward(weights.shared_gate_up, weights.shared_down, x_Td, tokens, d,
                     config.shared_width, saved.shared_gate_up, scratch, y_Td);
  }
  if (weights.output_bias != nullptr) AddBias(weights.output_bias, tokens, d, y_Td);
}

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
    ExpertsBackward(weights, dispatch, Matrix<const Float>(x_Td, tokens, d),
                    Matrix<const Float>(dy_Td, tokens, d), saved.row_scale.data(), n, saved,
                    scratch, gradients, dx_rows, dscale);
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
  CombineRows<Float>(dispatch, dx_rows, d, /*base=*/nullptr, dx_Td);
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
                              const float*, int64_t, int64_t, FfnSaved<Float>&,                    \
                              FfnScratch<Float>&, float*);                                         \
  template void MoeFfnBackward(const artefacts::MoeConfig&, LoadEstimator,                         \
                               const FfnWeights<Float>&, const Float*, const float*, const Float*, \
                               double, int64_t, int64_t, const FfnSaved<Float>&,                   \
                               FfnScratch<Float>&, const FfnGradients&, float*)
MOE_INSTANTIATE(float);
MOE_INSTANTIATE(c10::BFloat16);
#undef MOE_INSTANTIATE

}  // namespace moe::model
