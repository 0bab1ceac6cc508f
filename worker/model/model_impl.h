// What is behind a Model: one per compute type of the CPU's fast path (model.cc), and one for a
// device (worker/model/device).
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "worker/model/expert_exchange.h"
#include "worker/model/model.h"

namespace moe::model {

// A batch with what every layer needs to know of it.
struct Tokens {
  // std::invalid_argument where the batch does not fit the model.
  Tokens(const Batch& batch, const artefacts::ModelConfig& config);

  int64_t count() const { return batch.num_tokens(); }

  const Batch& batch;
  std::vector<TokenPlace> places;
  std::vector<int32_t> positions;
  int64_t longest = 0;
};

// The interface without templates, and what all share.
class Model::Impl {
 public:
  // std::invalid_argument where the config does not fit together.
  Impl(const artefacts::ModelConfig& config, const ModelOptions& options);
  virtual ~Impl() = default;

  void ShareExperts(std::unique_ptr<parallel::Communicator> group);

  virtual void SetParameters(const at::Tensor& parameters) = 0;
  virtual void RefreshLayer(int64_t layer) = 0;
  // The batch has a target.
  virtual BatchResult ForwardBackward(const Batch& batch, const NoiseContext& noise,
                                      const LossScale& scale, at::Tensor& gradients,
                                      const PassHooks& hooks) = 0;
  virtual BatchResult Evaluate(const Batch& batch) = 0;
  virtual at::Tensor Logits(const Batch& batch) = 0;
  virtual void ObserveDenseFfns(std::function<void(const FfnActivations&)> observer) = 0;

  const artefacts::ModelConfig config_;
  const ModelOptions options_;
  const ParameterLayout layout_;
  std::optional<ExpertExchange> exchange_;  // where other ranks hold experts

 protected:
  // losses are those of the tokens.
  static void AddLosses(const Batch& batch, const float* losses, BatchResult& result);
  // Of a layer that was left dense.
  void AddDenseRouting(BatchResult& result) const;
  const char* HeadName() const;
  static std::string ScaleName(int64_t layer);
};

}  // namespace moe::model
