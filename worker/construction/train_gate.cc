#include "worker/construction/train_gate.h"

#include <ATen/TensorOperators.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/mm.h>
#include <ATen/ops/softmax.h>
#include <ATen/ops/tanh.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>
#include <vector>

#include "common/philox.h"
#include "worker/construction/rows.h"

namespace moe::construction {
namespace {

constexpr int64_t kBatchTokens = 1024;
constexpr int64_t kHeldOutTokenEvery = 8;
// AdamW's, as PyTorch has them.
constexpr double kBeta1 = 0.9, kBeta2 = 0.999, kEpsilon = 1e-8, kWeightDecay = 0.01;

// logits = second tanh(first x), or first x.
class GateNetwork {
 public:
  explicit GateNetwork(const std::map<std::string, at::Tensor>& weights) {
    for (const char* name : {"router.0", "router.2"}) {
      if (const auto it = weights.find(name); it != weights.end()) {
        weights_.push_back({.name = name,
                            .value = it->second.clone(),
                            .mean = at::zeros_like(it->second),
                            .square = at::zeros_like(it->second)});
      }
    }
  }

  at::Tensor Logits(const at::Tensor& x_Td) const {
    const at::Tensor first_TN = at::mm(x_Td, weights_[0].value.t());
    return is_mlp() ? at::mm(first_TN.tanh(), weights_[1].value.t()) : first_TN;
  }

  // One step of AdamW on the mean KL divergence from teacher_TN.
  void Step(const at::Tensor& x_Td, const at::Tensor& teacher_TN, double learning_rate) {
    const at::Tensor hidden_TN = at::mm(x_Td, weights_[0].value.t()).tanh();
    const at::Tensor logits_TN = is_mlp() ? at::mm(hidden_TN, weights_[1].value.t()) : Logits(x_Td);
    at::Tensor dy_TN = (at::softmax(logits_TN, 1) - teacher_TN) / static_cast<double>(x_Td.size(0));
    ++steps_;
    if (is_mlp()) {
      const at::Tensor dhidden_TN = at::mm(dy_TN, weights_[1].value) * (1 - hidden_TN * hidden_TN);
      Update(weights_[1], at::mm(dy_TN.t(), hidden_TN), learning_rate);
      dy_TN = dhidden_TN;
    }
    Update(weights_[0], at::mm(dy_TN.t(), x_Td), learning_rate);
  }

  std::map<std::string, at::Tensor> Weights() const {
    std::map<std::string, at::Tensor> weights;
    for (const Weight& weight : weights_) weights[weight.name] = weight.value.clone();
    return weights;
  }

 private:
  struct Weight {
    std::string name;
    at::Tensor value, mean, square;
  };
  bool is_mlp() const { return weights_.size() > 1; }

  void Update(Weight& weight, const at::Tensor& gradient, double learning_rate) const {
    weight.value.mul_(1 - learning_rate * kWeightDecay);
    weight.mean.mul_(kBeta1).add_(gradient, 1 - kBeta1);
    weight.square.mul_(kBeta2).add_(gradient * gradient, 1 - kBeta2);
    const double step = static_cast<double>(steps_);
    const double mean_scale = 1 / (1 - std::pow(kBeta1, step));
    const double square_scale = 1 / (1 - std::pow(kBeta2, step));
    weight.value.sub_(weight.mean * mean_scale /
                      ((weight.square * square_scale).sqrt() + kEpsilon) * learning_rate);
  }

  std::vector<Weight> weights_;
  int64_t steps_ = 0;
};

double Accuracy(const GateNetwork& gate, const at::Tensor& x_Td, const at::Tensor& teacher_TN) {
  return (gate.Logits(x_Td).argmax(1) == teacher_TN.argmax(1))
      .to(at::kDouble)
      .mean()
      .item<double>();
}

void Shuffle(std::vector<int64_t>& values, PhiloxGenerator& generator) {
  for (int64_t i = std::ssize(values) - 1; i > 0; --i) {
    std::swap(values[i], values[static_cast<int64_t>(generator.Below(i + 1))]);
  }
}

}  // namespace

at::Tensor ExpertActivity(const at::Tensor& h_TI, const LayerPartition& partition,
                          Teacher teacher) {
  const int64_t N = std::ssize(partition.experts);
  at::Tensor activity_TN = at::empty({h_TI.size(0), N}, h_TI.options());
  for (int64_t e = 0; e < N; ++e) {
    const Neurons& neurons = partition.experts[e];
    const at::Tensor h_Tn = at::index_select(
        h_TI, 1,
        at::from_blob(const_cast<int64_t*>(neurons.data()), {std::ssize(neurons)}, at::kLong));
    at::Tensor sum_T;
    switch (teacher) {
      case Teacher::kL1:
        sum_T = h_Tn.abs().sum(1);
        break;
      case Teacher::kL2:
        sum_T = (h_Tn * h_Tn).sum(1);
        break;
      case Teacher::kPositive:
        sum_T = h_Tn.clamp_min(0).sum(1);
        break;
      case Teacher::kPlain:
        sum_T = h_Tn.sum(1).abs();
        break;
    }
    activity_TN.select(1, e).copy_(sum_T);
  }
  return activity_TN;
}

TrainedGate TrainGate(const GateTrainingOptions& options, int64_t layer, const at::Tensor& x_Td,
                      const at::Tensor& activity_TN, std::map<std::string, at::Tensor> weights) {
  const double spread = activity_TN.std().item<double>();
  const at::Tensor teacher_TN = at::softmax(spread > 0 ? activity_TN / spread : activity_TN, 1);
  std::vector<int64_t> train, held_out;
  for (int64_t t = 0; t < x_Td.size(0); ++t) {
    (t % kHeldOutTokenEvery == 0 ? held_out : train).push_back(t);
  }
  const at::Tensor held_out_x = Rows(x_Td, held_out), held_out_teacher = Rows(teacher_TN, held_out);

  GateNetwork gate(weights);
  TrainedGate best{.weights = std::move(weights)};
  best.accuracy_before = best.accuracy = Accuracy(gate, held_out_x, held_out_teacher);
  PhiloxGenerator generator(options.seed, RandomStream::kSampleShuffle,
                            static_cast<uint32_t>(layer));
  const int64_t batches = (std::ssize(train) + kBatchTokens - 1) / kBatchTokens;
  const int64_t steps = batches * options.epochs;
  for (int64_t step = 0; step < steps; ++step) {
    const int64_t batch = step % batches;
    if (batch == 0) Shuffle(train, generator);
    const auto first = train.begin() + batch * kBatchTokens;
    const auto last = train.begin() + std::min((batch + 1) * kBatchTokens, std::ssize(train));
    const std::vector<int64_t> rows(first, last);
    gate.Step(
        Rows(x_Td, rows), Rows(teacher_TN, rows),
        options.learning_rate * static_cast<double>(steps - step) / static_cast<double>(steps));
    if (batch + 1 < batches) continue;
    const double accuracy = Accuracy(gate, held_out_x, held_out_teacher);
    if (accuracy > best.accuracy) {
      best.accuracy = accuracy;
      best.weights = gate.Weights();
    }
  }
  return best;
}

}  // namespace moe::construction
