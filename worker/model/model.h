// The LLaMA decoder, dense or with mixture-of-experts FFNs: forward, and forward with backward.
//
// B samples, S tokens per sample where all are of one length, T tokens over all samples, d hidden
// size, V vocabulary, N experts, P arena.
//
// The fast path: hand-written backward, no autograd, compute in bf16 or fp32 with fp32 master
// parameters, gradients, norm statistics, gate and loss. There is one for the CPU and one for
// devices (worker/model/device). worker/model/reference.h is the same model in plain autograd,
// which tests hold both to.
//
// Deterministic: equal inputs give equal bits on the same machine with the same number of threads.
// Not thread-safe; errors inside are exceptions (c10::Error, std::exception).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "storage/artefacts/model_config.h"
#include "worker/model/batch.h"
#include "worker/model/parameters.h"
#include "worker/parallel/communicator.h"

namespace moe::kernels::device {
class StepKernels;
}

namespace moe::model {

enum class ComputeType { kBf16, kFp32 };
enum class LoadEstimator { kCorrect, kCompat };

struct ModelOptions {
  ComputeType compute = ComputeType::kBf16;
  LoadEstimator load_estimator = LoadEstimator::kCorrect;
  ExpertShare experts = {};  // what this rank holds of every layer's
  // Of the device that computes, which holds parameters and gradients; outlives the model. Null:
  // the CPU, with the fast path that was written for it.
  kernels::device::StepKernels* kernels = nullptr;
};

// What decides the gate's noise: draw (layer, token, expert) is a function of the seed, the step
// and the global index of the sample, so it does not depend on ranks, threads or micro-batches.
struct NoiseContext {
  uint64_t seed = 0;
  int64_t first_sample = 0;  // global index of the micro-batch's first sample, unique over the run
};

struct LayerRouting {
  std::vector<int64_t> load;       // tokens per expert, N
  std::vector<double> importance;  // sum of scores per expert, N
  int64_t dropped = 0;             // tokens among those of load that their expert had no room for
};

struct BatchResult {
  std::vector<double> sample_loss_sum;  // per sample: sum of -log p over its targets, nats
  int64_t num_targets = 0;              // over all samples
  double balance_loss = 0;              // summed over layers, weighted
  // Per layer, with zeros for a layer of a mixture that was left dense; empty for a dense model.
  std::vector<LayerRouting> routing;

  double MeanLoss() const;  // over all targets
};

// What a dense FFN had in memory on the way back. gate_up holds the outputs of the gate and up
// projections side by side; d... is the gradient of the loss by what it is named after.
struct FfnActivations {
  int64_t layer = 0, tokens = 0, width = 0;
  const float* h = nullptr;         // [T, n], the input of the down projection
  const float* dh = nullptr;        // [T, n]
  const float* gate_up = nullptr;   // [T, 2 n]
  const float* dgate_up = nullptr;  // [T, 2 n]
};

// Factors on what ForwardBackward takes the gradient of.
struct LossScale {
  double target = 1;   // on the sum of -log p over targets
  double balance = 1;  // on the balance loss
};

// What happens between the layers of a pass. Layers are numbered as in ParameterLayout::LayerRange:
// -1 is the embedding, num_layers the last norm and the head.
struct PassHooks {
  // Before the pass reads the parameters of a layer, in ascending order.
  std::function<void(int64_t layer)> before_parameters;
  // The gradients of a layer are complete for this pass, in descending order.
  std::function<void(int64_t layer)> after_gradients;
  // Before and after each wait for the ranks that hold other experts.
  std::function<void(bool waits)> around_wait;
};

class Model {
 public:
  Model(const artefacts::ModelConfig& config, const ModelOptions& options);
  ~Model();

  const artefacts::ModelConfig& config() const;
  const ParameterLayout& layout() const;

  // Connects to the ranks that hold the other experts; each has its position in `group` as the
  // index of its share. Comes before SetParameters where a share is not the whole. From there on
  // the ranks of the group make every pass together, each with a batch of its own, and a pass may
  // end with parallel::CollectiveError.
  void ShareExperts(std::unique_ptr<parallel::Communicator> group);
  // In operations with those ranks since then.
  double exchange_seconds() const;

  kernels::device::StepKernels* kernels() const;  // of the options
  at::Device device() const;

  // Takes the parameters (fp32 [P], on the model's device) and makes the compute copies. Call after
  // every change of them. Keeps a reference to `parameters`.
  void SetParameters(const at::Tensor& parameters);
  // Only those of one layer have changed, in the tensor that SetParameters was given.
  void RefreshLayer(int64_t layer);

  // Forward and backward of one micro-batch, in training mode (gate noise as the config says). The
  // gradient of what `scale` says is added to `gradients`, fp32 [P].
  BatchResult ForwardBackward(const Batch& batch, const NoiseContext& noise, const LossScale& scale,
                              at::Tensor& gradients, const PassHooks& hooks = {});
  // The same for int64 [B, S] and (MeanLoss + balance_loss) * grad_scale, where grad_scale is
  // 1 / (number of micro-batches of the step).
  BatchResult ForwardBackward(const at::Tensor& tokens_BS, const NoiseContext& noise,
                              double grad_scale, at::Tensor& gradients);

  // Has every later ForwardBackward show the dense FFNs' activations to `observer`, layer by layer
  // from the last; they are gone when it returns. std::invalid_argument where the model does not
  // compute in fp32.
  void ObserveDenseFfns(std::function<void(const FfnActivations&)> observer);

  // Forward only, in evaluation mode (no noise).
  BatchResult Evaluate(const Batch& batch);
  BatchResult Evaluate(const at::Tensor& tokens_BS);
  // fp32 [T, V] or [B, S, V], evaluation mode; for tests and small inputs.
  at::Tensor Logits(const Batch& batch);
  at::Tensor Logits(const at::Tensor& tokens_BS);

  class Impl;  // model_impl.h

 private:
  std::unique_ptr<Impl> impl_;
};

}  // namespace moe::model
