// Training state on disk (docs/formats/checkpoint.md): written beside the step loop.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/json.h"
#include "storage/artefacts/manifest.h"
#include "storage/artefacts/model_config.h"
#include "worker/model/parameters.h"
#include "worker/model/state_files.h"
#include "worker/parallel/communicator.h"
#include "worker/training/progress.h"

namespace moe::training {

// A complete checkpoint: the body of an `artefact` report.
struct WrittenCheckpoint {
  std::string name;
  std::string path;
  uint32_t manifest_crc32c = 0;
  uint64_t size_bytes = 0;
  int64_t step = 0;
  double write_seconds = 0;    // from snapshot to synced
  double blocked_seconds = 0;  // the step loop: waiting for the checkpoint before, and copying
  Json metadata = Json::object();
  std::vector<std::string> inputs;
};
Json ToJson(const WrittenCheckpoint& checkpoint);

// What it takes to read a checkpoint.
struct CheckpointPlace {
  std::string path;
  uint32_t manifest_crc32c = 0;
};

struct CheckpointOptions {
  std::string folder;               // the attempt's: <artefact root>/checkpoint/j5.2
  std::string name;                 // to catalogue under
  std::string job_id;               // for the manifest
  int32_t attempt = 0;              // for the manifest
  std::vector<std::string> inputs;  // "name:version" or path of model and dataset
  std::string tokenizer_folder;     // whose tokenizer files are copied: the model's
  model::KeepAverage keep_average = model::KeepAverage::kNever;
  // The state is on a GPU, which copies several times as fast to memory that is not paged out.
  bool from_gpu = false;
};

// Writes checkpoints of one run, one at a time, on a thread of its own. Every rank has one and
// calls it at the same steps. Rank 0's calls the callbacks, on the writer's thread.
class CheckpointWriter {
 public:
  struct Callbacks {
    std::function<void(const WrittenCheckpoint&)> on_written;
    std::function<void(int64_t step, const absl::Status&)> on_failed;
  };

  // Allocates the staging buffer: three or, with an average, four times what the rank owns
  // (ownership.h). `communicator` is only used for Split.
  CheckpointWriter(const CheckpointOptions& options, const artefacts::ModelConfig& config,
                   const model::ParameterLayout& layout, parallel::Communicator& communicator,
                   Callbacks callbacks);
  // Waits for the write in flight.
  ~CheckpointWriter();

  // Copies the state (`parameters` fp32 [P], the moments and, where one is kept, the average fp32
  // [owned], of any device) and returns; the rest goes on in the background. Waits first where the
  // previous checkpoint is still being written. A write that fails leaves no folder behind and is
  // told through on_failed.
  void Save(const Progress& progress, const at::Tensor& parameters, const at::Tensor& exp_avg,
            const at::Tensor& exp_avg_sq, const at::Tensor& average = {});

  // Waits for the write in flight and says how the last one ended, the same on every rank.
  absl::Status Wait();

  // Waits for the write in flight; the newest complete checkpoint, the same on every rank. None
  // where there is none yet.
  std::optional<CheckpointPlace> WaitForNewest();

  // Folder of the checkpoint of `step`.
  std::string Path(int64_t step) const;

 private:
  // On the writer's thread: everything after the copy.
  absl::Status Write(const Progress& progress, double blocked_seconds);
  // The part that ranks do together: shards, exchange of outcomes, completion by rank 0.
  absl::Status WriteTogether(const std::string& folder, const Progress& progress,
                             WrittenCheckpoint& written);
  absl::StatusOr<artefacts::ManifestFile> WriteShard(const std::string& folder,
                                                     const std::string& name);
  // Rank 0: the other files, read-back, manifest.
  absl::Status Complete(const std::string& folder, const Progress& progress,
                        const std::vector<artefacts::ManifestFile>& shards,
                        WrittenCheckpoint& written);

  const CheckpointOptions options_;
  const artefacts::ModelConfig config_;
  const std::vector<parallel::Range> owned_;
  // The same in the arena with all experts, of so many elements.
  const std::vector<model::ParameterLayout::Range> whole_ranges_;
  const int64_t whole_numel_;
  const std::unique_ptr<parallel::Communicator> communicator_;  // the thread's own
  const Callbacks callbacks_;

  // Belong to the thread while there is one, else to the caller.
  at::Tensor all_staging_;           // fp32, one after the other, aligned for the disk
  std::vector<at::Tensor> staging_;  // fp32 [owned], in the order of the file
  absl::Status last_status_;
  int64_t newest_step_ = 0;  // complete; 0: none. The manifest is known to rank 0 alone.
  uint32_t newest_crc32c_ = 0;
  std::thread thread_;
};

}  // namespace moe::training
