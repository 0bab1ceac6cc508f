#include "worker/construction/predictive_neurons.h"

#include <ATen/ops/mm.h>

#include <algorithm>
#include <cmath>

#include "common/check.h"
#include "worker/kernels/parallel.h"
#include "worker/kernels/row_products.h"

namespace moe::construction {
namespace {

// Of the mean square of a neuron: neurons that hardly move explain little by much.
constexpr double kRidge = 1e-3;
constexpr int64_t kBlockNeurons = 64;

// Forward selection on the moments of the sample: a Cholesky factorisation of the Gram matrix whose
// pivots are chosen by what they explain.
class Selection {
 public:
  Selection(const at::Tensor& h_TI, const at::Tensor& target_Td, int64_t count)
      : I_(h_TI.size(1)),
        d_(target_Td.size(1)),
        gram_(at::mm(h_TI.t(), h_TI).contiguous()),
        correlation_(at::mm(h_TI.t(), target_Td).contiguous()),
        count_(count),
        factor_(I_ * count),
        left_(I_),
        explained_(I_),
        is_chosen_(I_) {
    const float ridge = static_cast<float>(kRidge * gram_.diagonal().mean().item<double>() + 1e-30);
    gram_.diagonal().add_(ridge);
    const std::vector<float> nothing(d_);
    for (int64_t i = 0; i < I_; ++i) {
      left_[i] = Gram(i)[i];
      explained_[i] = kernels::SubtractRow(nothing.data(), d_, 0, Correlation(i));
    }
  }

  std::vector<int64_t> Run() {
    std::vector<int64_t> chosen;
    for (int64_t k = 0; k < count_; ++k) {
      const int64_t best = Best();
      is_chosen_[best] = true;
      chosen.push_back(best);
      TakeOut(best, k);
    }
    std::sort(chosen.begin(), chosen.end());
    return chosen;
  }

 private:
  const float* Gram(int64_t i) const { return gram_.const_data_ptr<float>() + i * I_; }
  float* Correlation(int64_t i) { return correlation_.mutable_data_ptr<float>() + i * d_; }

  int64_t Best() const {
    int64_t best = -1;
    float most = -1;
    for (int64_t i = 0; i < I_; ++i) {
      // What the chosen ones predict of a neuron wholly has lost its digits.
      const float gain = left_[i] > 1e-5f * Gram(i)[i] ? explained_[i] / left_[i] : 0.0f;
      if (!is_chosen_[i] && gain > most) {
        most = gain;
        best = i;
      }
    }
    return best;
  }

  // Everything without what neuron `pivot`, the k-th, explains of it.
  void TakeOut(int64_t pivot, int64_t k) {
    const float root = std::sqrt(std::max(left_[pivot], 1e-30f));
    const float* pivot_factor = &factor_[pivot * count_];
    std::vector<float> step(Correlation(pivot), Correlation(pivot) + d_);
    for (float& value : step) value /= root;
    kernels::ParallelFor(I_, kBlockNeurons, [&](int64_t begin, int64_t end) {
      for (int64_t i = begin; i < end; ++i) {
        float* factor = &factor_[i * count_];
        float product = Gram(pivot)[i];
        for (int64_t j = 0; j < k; ++j) product -= factor[j] * pivot_factor[j];
        factor[k] = product / root;
        left_[i] -= factor[k] * factor[k];
        explained_[i] = kernels::SubtractRow(step.data(), d_, factor[k], Correlation(i));
      }
    });
  }

  const int64_t I_, d_;
  at::Tensor gram_, correlation_;  // [I, I]; [I, d], of what is not yet predicted
  const int64_t count_;
  std::vector<float> factor_;     // [I, count]
  std::vector<float> left_;       // [I]: square of what is not yet predicted of a neuron
  std::vector<float> explained_;  // [I]: squared length of its correlation
  std::vector<char> is_chosen_;   // [I]
};

}  // namespace

std::vector<int64_t> PredictiveNeurons(const at::Tensor& h_TI, const at::Tensor& target_Td,
                                       int64_t count) {
  MOE_CHECK(count <= h_TI.size(1));
  return Selection(h_TI, target_Td, count).Run();
}

}  // namespace moe::construction
