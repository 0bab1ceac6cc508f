// Continual pre-training of a mixture of experts: the step loop.
//
//   Trainer trainer(options, {.model = model, .dataset = *dataset, .sequence = sequence,
//                             .communicator = communicator, .observer = observer});
//   trainer.Start(parameters);            // or trainer.Resume(path, manifest_crc32c)
//   TrainResult result = trainer.Run();
//
// Data parallel with ZeRO-1: every rank has the whole model and computes its share of the global
// batch; each owns a contiguous range of the arenas, for which it keeps optimizer state. The global
// batch, its order and the gate noise do not depend on the number of ranks.
//
// Every rank makes the same calls. Not thread-safe. Errors are exceptions: NonFiniteLoss,
// CheckpointError, parallel::CollectiveError, c10::Error, std::exception.
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
#include "worker/model/model.h"
#include "worker/parallel/communicator.h"
#include "worker/training/adamw.h"
#include "worker/training/checkpoint.h"
#include "worker/training/schedule.h"
#include "worker/training/step_report.h"

namespace moe::training {

// The loss or the gradient norm is not finite: names the step, what, and the value.
class NonFiniteLoss : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct TrainOptions {
  int64_t steps = 0;
  int64_t sequence_length = 4096;
  int64_t global_batch_samples = 8;  // a multiple of micro_batch_samples x world_size
  int64_t micro_batch_samples = 4;
  Schedule schedule;  // total_steps = steps
  AdamWOptions adamw;
  double clip_norm = 1.0;  // 0: no clipping
  uint64_t seed = 1227;
  int64_t checkpoint_interval_steps = 100;
  CheckpointOptions checkpoint;
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
  // After every step; rank 0 only.
  virtual void OnStep(const StepReport& report) = 0;
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
  // kNone: all steps are done, and the last checkpoint is committed. Otherwise why it stopped, the
  // same on all ranks.
  StopReason stopped = StopReason::kNone;
  int64_t step = 0;        // done
  int64_t tokens = 0;      // consumed
  double last_loss = 0;    // of the newest step of this process; 0 where it made none
  std::string checkpoint;  // folder of the last checkpoint written by this process; may be empty
};

class Trainer {
 public:
  // Collaborators outlive the trainer.
  struct Collaborators {
    model::Model& model;
    const sampler::Dataset& dataset;
    sampler::SampleSequence sequence;  // at its start
    parallel::Communicator& communicator;
    TrainObserver& observer;
  };

  // std::invalid_argument where Validate refuses.
  Trainer(const TrainOptions& options, Collaborators collaborators);
  ~Trainer();

  // Begins at step 0 with `parameters` (fp32 [P], CPU), which the trainer changes in place.
  void Start(const at::Tensor& parameters);
  // Continues after the step of the checkpoint at `path`. CheckpointError where it is corrupt or of
  // another run: seed, dataset, model or mixture differ.
  void Resume(const std::string& path, uint32_t manifest_crc32c);

  // Runs to the last step or to a stop. A drain writes a checkpoint first; it is not waited for
  // beyond its report, since reports are applied in order.
  TrainResult Run();

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace moe::training
