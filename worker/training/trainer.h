// Continual pre-training of a mixture of experts: the step loop.
//
//   Trainer trainer(options, {.model = model, .dataset = *dataset, .sequence = sequence,
//                             .communicator = communicator, .observer = observer});
//   trainer.Start(parameters);            // or trainer.Resume(path, manifest_crc32c)
//   TrainResult result = trainer.Run();
//
// Data parallel with ZeRO-1: every rank computes its share of the global batch with the whole
// model, or with a model whose experts are shared out among the ranks of a group (ownership.h);
// each owns some of the arenas, for which it keeps optimizer state. Gradients go to their owners
// while the backward pass goes on, parameters come back while the next forward pass does. The
// global batch, its order and the gate noise do not depend on the ranks.
//
// Every rank makes the same calls. Not thread-safe. Errors are exceptions: NonFiniteLoss,
// LossSpike, CheckpointError, parallel::CollectiveError, c10::Error, std::exception.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "common/run_channel.h"
#include "sampler/dataset.h"
#include "sampler/sample_sequence.h"
#include "worker/evaluation/read_batch.h"
#include "worker/model/model.h"
#include "worker/parallel/communicator.h"
#include "worker/training/adamw.h"
#include "worker/training/checkpoint_reader.h"
#include "worker/training/checkpoint_writer.h"
#include "worker/training/dynamic_mixture.h"
#include "worker/training/global_batch.h"
#include "worker/training/progress.h"
#include "worker/training/schedule.h"
#include "worker/training/state_exchange.h"
#include "worker/training/step_report.h"
#include "worker/training/step_statistics.h"
#include "worker/training/watch.h"
#include "worker/training/weight_average.h"

namespace moe::training {

// The loss or the gradient norm is not finite, and the watch policy says stop: names step,
// quantities and, where parameters are damaged, which.
class NonFiniteLoss : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// The loss spiked, and the watch policy says stop: names step, value and limit.
class LossSpike : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A checkpoint that the run cannot do without could not be written, committed or read. The code
// says whose fault it is: INVALID_ARGUMENT the input's, anything else the storage's.
class CheckpointError : public std::runtime_error {
 public:
  explicit CheckpointError(const absl::Status& status);
  const absl::Status& status() const { return status_; }

 private:
  absl::Status status_;
};

// The checkpoint to go on from is not what was written, or is not there: an older one may do.
class DamagedCheckpoint : public CheckpointError {
 public:
  using CheckpointError::CheckpointError;
};

// Losses on held-out text, beside the losses of training.
struct ValidationOptions {
  int64_t interval_steps = 0;  // 0: never; else the last step is measured as well
  int64_t heldout_samples = 16;
};

struct TrainOptions {
  int64_t steps = 0;
  int64_t sequence_length = 4096;
  int64_t global_batch_samples = 8;  // a multiple of micro_batch_samples x world_size
  int64_t micro_batch_samples = 4;
  evaluation::AttentionScope attention = evaluation::AttentionScope::kSample;
  Schedule schedule;  // total_steps = steps
  AdamWOptions adamw;
  double clip_norm = 1.0;  // 0: no clipping
  uint64_t seed = 1227;
  int64_t checkpoint_interval_steps = 100;
  CheckpointOptions checkpoint;
  LearningRateRatios learning_rate_ratios;
  WatchPolicy watch;
  double peak_flops_per_rank = 0;  // of matrix products; 0 where not measured
  ValidationOptions validation = {};
  WeightAverageOptions weight_average = {};
  DynamicMixtureOptions dynamic = {};
  int64_t collective_timeout_ms = 120'000;  // of one operation, the wait for other ranks included
};

// INVALID_ARGUMENT with value, limit and fix. Cheap; the trainer's constructor calls it as well.
absl::Status Validate(const TrainOptions& options, const model::Model& model,
                      const sampler::Dataset& dataset, int world_size);

// What the trainer tells and asks: the run channel in moe-rank, a recorder in tests.
class TrainObserver {
 public:
  virtual ~TrainObserver() = default;

  // Polled once a step, on every rank.
  virtual StopReason stop_requested() = 0;
  // What the rank does now, on every rank and at every change: "step", "waits for the other ranks",
  // "held-out losses", "checkpoint". `done` is the number of finished steps.
  virtual void OnPhase(int64_t done, const std::string& phase) {}
  // After every step; rank 0 only.
  virtual void OnStep(const StepReport& report) = 0;
  // The run goes on, but a person should know: moe.v1.TrainWarning. Rank 0 only.
  virtual void OnWarning(int64_t step, const std::string& kind, const std::string& text) = 0;
  // A checkpoint is complete on disk: report it as an artefact. Rank 0 only; called on the
  // checkpoint writer's thread.
  virtual void OnCheckpoint(const WrittenCheckpoint& checkpoint) = 0;
  // A checkpoint could not be written and the run goes on. Rank 0 only, writer's thread.
  virtual void OnCheckpointFailed(int64_t step, const absl::Status& status) = 0;
  // Blocks until the coordinator has decided on a checkpoint. Rank 0 only, for the last one.
  // CANCELLED where a stop was requested meanwhile.
  virtual absl::Status WaitForCommit(const std::string& path) = 0;
};

struct TrainResult {
  // kNone: all steps are done and the last checkpoint is complete, on rank 0 also committed.
  // Otherwise why the run stopped: the same on all ranks, unless it was in rank 0's wait for that
  // commit.
  StopReason stopped = StopReason::kNone;
  int64_t step = 0;        // done
  int64_t tokens = 0;      // consumed
  double last_loss = 0;    // of the newest step of this process; 0 where it made none
  std::string checkpoint;  // folder of the last checkpoint written by this process; may be empty
  // Of gradients and parameters with other ranks, by this process.
  double exchange_seconds = 0;  // in operations
  double waited_seconds = 0;    // that a step waited for them
  int64_t exchanged_bytes = 0;  // sent
};

class Trainer {
 public:
  // Collaborators outlive the trainer. Where the model holds a part of the experts, that is the one
  // of its rank (ShareOf), and the trainer connects it to the others.
  struct Collaborators {
    model::Model& model;
    const sampler::Dataset& dataset;
    sampler::SampleSequence sequence;  // at its start
    parallel::Communicator& communicator;
    TrainObserver& observer;
    DecisionSource* decisions = nullptr;  // where options.dynamic has an interval
  };

  // std::invalid_argument where Validate refuses.
  Trainer(const TrainOptions& options, Collaborators collaborators);

  // Begins at step 0 with `parameters` (fp32 [P] of the model's layout, CPU), which the trainer
  // changes in place where the model computes on the CPU, and copies to its device elsewhere.
  // std::invalid_argument where a value is not finite.
  void Start(const at::Tensor& parameters);
  // Continues after the step of the checkpoint at `path`. DamagedCheckpoint where its checksums are
  // not right, CheckpointError where it is of another run: seed, dataset, model or mixture differ.
  void Resume(const std::string& path, uint32_t manifest_crc32c);

  // Runs to the last step or to a stop. A drain writes a checkpoint first; it is not waited for
  // beyond its report, since reports are applied in order.
  TrainResult Run();

 private:
  // New domain weights where they are due. Returns why to stop.
  StopReason UpdateMixture();
  // One step: batch, gradient, update, report. Returns why to stop, agreed among the ranks.
  StopReason RunStep();
  // Forward and backward of this rank's micro-batches; gradients are added to the arena. Returns
  // their statistics and this rank's stop reason as the doubles that ranks exchange.
  std::vector<double> ComputeGradients(const GlobalBatch& batch, int64_t first_sample);
  // Of arenas: fp32, where the model computes.
  at::TensorOptions ArenaOptions() const;
  // There; undefined stays undefined.
  at::Tensor OnDevice(const at::Tensor& tensor) const;
  // Views of the owned ranges.
  std::vector<at::Tensor> OwnedParameters() const;
  std::vector<double> AllGather(const std::vector<double>& mine);
  // Waits for the sum of the gradients over ranks; returns the norm of the whole.
  double GradientNorm();
  // The update, or what the verdict says instead. NonFiniteLoss or LossSpike where that is an end.
  void UpdateOr(const Verdict& verdict, double learning_rate, double gradient_norm);
  void UpdateParameters(double learning_rate, double gradient_norm);
  // Of one owned range, all tensors [range].
  void UpdateRange(const std::vector<DecaySegment>& segments, double learning_rate,
                   double gradient_scale, const at::Tensor& parameters, const at::Tensor& gradients,
                   const at::Tensor& exp_avg, const at::Tensor& exp_avg_sq);
  [[noreturn]] void StopFor(const Verdict& verdict);
  // For `purpose`, as in "resuming". DamagedCheckpoint, CheckpointError.
  LoadedState Load(const CheckpointPlace& place, const char* purpose) const;
  // Restores parameters and moments of the newest checkpoint; step and data cursor go on. False
  // where there is none yet.
  bool Rollback();
  // Tells people of a verdict and of what routing looks like; rank 0 only.
  void Warn(const Verdict& verdict, const std::vector<model::LayerRouting>& routing);
  // Held-out losses per domain after `step`; empty where none are due.
  std::vector<double> Validate(int64_t step);
  std::vector<StepReport::Domain> DomainReports(const GlobalBatch& batch,
                                                const std::vector<double>& sample_loss_sums,
                                                const std::vector<double>& heldout_losses) const;
  void SaveCheckpoint();
  // After the last step: the run is done when its last checkpoint is.
  StopReason FinishLastCheckpoint();

  const TrainOptions options_;
  model::Model& model_;
  const sampler::Dataset& dataset_;
  sampler::SampleSequence sequence_;
  parallel::Communicator& communicator_;
  TrainObserver& observer_;

  const int64_t micro_batches_per_rank_;
  const std::vector<parallel::Range> owned_;
  const std::vector<std::vector<DecaySegment>> decay_segments_;  // of each of them
  const StatisticsShape statistics_shape_;

  // On the model's device.
  at::Tensor parameters_;  // fp32 [P]
  at::Tensor gradients_;   // fp32 [P]; zero between steps
  at::Tensor exp_avg_;     // fp32 [owned]: the ranges one after the other
  at::Tensor exp_avg_sq_;  // fp32 [owned]
  // The model's connection to the ranks with the other experts; nullptr where this one holds all.
  parallel::Communicator* const expert_group_;
  StateExchange exchange_;
  double waited_seconds_ = 0;  // for other ranks, the exchange not included
  // What has been told of in reports.
  double reported_seconds_ = 0;
  int64_t reported_bytes_ = 0;
  WeightAverage average_;
  DynamicMixture mixture_;
  Progress progress_;
  RoutingWatch routing_watch_;
  // Where Rollback goes while this process has not written a checkpoint.
  std::optional<CheckpointPlace> resumed_from_;
  TrainResult result_;
  CheckpointWriter checkpoint_writer_;
};

}  // namespace moe::training
