// A training run small enough for a unit test: a random mixture of experts with two layers, two
// domains of random tokens, and an observer that writes down what it is told.
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "sampler/dataset.h"
#include "worker/model/model.h"
#include "worker/parallel/communicator.h"
#include "worker/training/trainer.h"

namespace moe::training {

artefacts::ModelConfig TinyMoe();
// Fp32 [P] of the share, the same for the same config.
at::Tensor RandomParameters(const artefacts::ModelConfig& config,
                            const model::ExpertShare& share = {});
// Writes a dataset artefact with the vocabulary of TinyMoe to `folder`.
void WriteTinyDataset(const std::string& folder);
// The same with one domain, whose documents of 50 tokens are all of the same token.
void WriteRepeatedTokenDataset(const std::string& folder, int documents = 40);

// The same with conversations of 12 to 40 tokens: questions, and answers that follow from them.
void WriteTinyConversations(const std::string& folder);

// Remembers reports; commits every checkpoint. Thread-safe.
class RecordingObserver : public TrainObserver {
 public:
  StopReason stop_requested() override;
  void OnStep(const StepReport& report) override;
  void OnWarning(int64_t step, const std::string& kind, const std::string& text) override;
  void OnCheckpoint(const WrittenCheckpoint& checkpoint) override;
  void OnCheckpointFailed(int64_t step, const absl::Status& status) override;
  absl::Status WaitForCommit(const std::string& path) override;

  // From the moment step `step` is being computed, a stop is asked for.
  void StopDuringStep(int64_t step, StopReason reason);

  std::vector<StepReport> steps;
  std::vector<WrittenCheckpoint> checkpoints;
  std::vector<std::string> failures;
  std::vector<std::string> warnings;  // "step 3 rollback: ..."

 private:
  absl::Mutex mutex_;
  int64_t polls_ = 0;
  int64_t stop_step_ = -1;
  StopReason stop_reason_ = StopReason::kNone;
};

struct TinyRun {
  // Which dataset to read, and where to write checkpoints.
  std::string dataset_folder;
  std::string checkpoint_folder;
  int64_t steps = 6;
  int64_t checkpoint_interval_steps = 100;
  int64_t global_batch_samples = 8;
  uint64_t seed = 1227;
  model::ComputeType compute = model::ComputeType::kFp32;
  // Of the device to train on, or null for the CPU's fast path.
  kernels::device::StepKernels* kernels = nullptr;
  // Resume from here instead of a start from RandomParameters.
  std::optional<WrittenCheckpoint> resume = std::nullopt;
  LearningRateRatios learning_rate_ratios = {};
  WatchPolicy watch = {};
  // Where the domain weights change: what earlier attempts know, and who decides.
  DynamicMixtureOptions dynamic = {};
  DecisionSource* decisions = nullptr;
  ValidationOptions validation = {};
  WeightAverageOptions weight_average = {};
  bool gate_noise = true;
  evaluation::AttentionScope attention = evaluation::AttentionScope::kSample;
  int64_t expert_parallel = 1;  // ranks among whom experts are shared out
  // Changes the parameters of a fresh start.
  void (*spoil)(const model::ParameterLayout& layout, at::Tensor& parameters) = nullptr;
};

TrainOptions ToOptions(const TinyRun& run);
// The model, and the samples in their order, that a run works with.
artefacts::ModelConfig TinyConfig(const TinyRun& run);
sampler::SampleSequence TinySequence(const TinyRun& run, const sampler::Dataset& dataset);
// Trains to the end, on this rank. Returns what Trainer::Run does.
TrainResult Train(const TinyRun& run, parallel::Communicator& communicator,
                  TrainObserver& observer);
// The same on a single rank.
TrainResult Train(const TinyRun& run, TrainObserver& observer);

// Everything of a report that does not depend on the clock.
std::string Fingerprint(const StepReport& report);
std::vector<std::string> Fingerprints(const std::vector<StepReport>& reports);

}  // namespace moe::training
