// Training state on disk (docs/formats/checkpoint.md): an asynchronous writer and a reader.
//
// P elements of the arena; a rank owns a contiguous range of it.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/json.h"
#include "sampler/sample_sequence.h"
#include "storage/artefacts/model_config.h"
#include "worker/parallel/communicator.h"

namespace moe::training {

// A checkpoint that the run cannot do without could not be written or read. The code says whose
// fault it is: INVALID_ARGUMENT the input's, RESOURCE_EXHAUSTED and the rest the storage's.
class CheckpointError : public std::runtime_error {
 public:
  explicit CheckpointError(const absl::Status& status);
  const absl::Status& status() const { return status_; }

 private:
  absl::Status status_;
};

// Where a run is: progress.json.
struct Progress {
  int64_t step = 0;    // done
  int64_t tokens = 0;  // consumed
  int world_size = 1;  // of the run that wrote it
  uint64_t seed = 0;
  sampler::SampleSequence::Cursor data_cursor;
  uint32_t dataset_manifest_crc32c = 0;
  int64_t sampler_version = 0;
};

// A complete checkpoint: the body of an `artefact` report.
struct WrittenCheckpoint {
  std::string name;
  std::string path;
  uint32_t manifest_crc32c = 0;
  uint64_t size_bytes = 0;
  int64_t step = 0;
  double write_seconds = 0;    // from snapshot to verified
  double blocked_seconds = 0;  // the step loop: waiting for the checkpoint before, and copying
  Json metadata = Json::object();
  std::vector<std::string> inputs;
};
Json ToJson(const WrittenCheckpoint& checkpoint);

struct CheckpointOptions {
  std::string folder;               // the attempt's: <artefact root>/checkpoint/j5.2
  std::string name;                 // to catalogue under
  std::string job_id;               // for the manifest
  int32_t attempt = 0;              // for the manifest
  std::vector<std::string> inputs;  // "name:version" or path of model and dataset
  std::string tokenizer_folder;     // whose tokenizer files are copied: the model's
};

// Writes checkpoints of one run, one at a time, on a thread of its own. Every rank has one and
// calls it at the same steps. Rank 0's calls the callbacks, on the writer's thread.
class CheckpointWriter {
 public:
  struct Callbacks {
    std::function<void(const WrittenCheckpoint&)> on_written;
    std::function<void(int64_t step, const absl::Status&)> on_failed;
  };

  // Allocates the staging buffer: three times the owned range. `communicator` is only used for
  // Split.
  CheckpointWriter(const CheckpointOptions& options, const artefacts::ModelConfig& config,
                   int64_t arena_numel, parallel::Communicator& communicator, Callbacks callbacks);
  // Waits for the write in flight.
  ~CheckpointWriter();

  // Copies the state (`parameters` fp32 [P], the moments fp32 of the owned range) and returns; the
  // rest goes on in the background. Waits first where the previous checkpoint is still being
  // written. A write that fails leaves no folder behind and is told through on_failed.
  void Save(const Progress& progress, const at::Tensor& parameters, const at::Tensor& exp_avg,
            const at::Tensor& exp_avg_sq);

  // Waits for the write in flight and says how the last one ended, the same on every rank.
  absl::Status Wait();

  // Folder of the checkpoint of `step`.
  std::string Path(int64_t step) const;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

// Reads a checkpoint: the whole `parameters` [P], and the moments of `range`. Every file that is
// read has its CRC-32C checked. DATA_LOSS names the file; INVALID_ARGUMENT where the arena has
// another length than `arena_numel`, i.e. the model is another one.
struct LoadedState {
  Progress progress;
  at::Tensor parameters;  // fp32 [P]
  at::Tensor exp_avg;     // fp32 [range]
  at::Tensor exp_avg_sq;  // fp32 [range]
};
absl::StatusOr<LoadedState> LoadCheckpoint(const std::string& path, uint32_t manifest_crc32c,
                                           int64_t arena_numel, parallel::Range range);

}  // namespace moe::training
