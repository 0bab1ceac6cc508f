// Raw text to a dataset artefact (docs/formats/dataset.md): reads the documents of each domain,
// drops what the spec asks to drop, splits off what is held out, tokenises and writes shards,
// records, data card and manifest.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "sampler/prepare_spec.h"
#include "storage/artefacts/manifest.h"

namespace moe::sampler {

struct PrepareOutput {
  std::string folder;  // made where it is not there; must be empty
  // Where the work is until it is done, on the same file system. What an earlier process left there
  // for the same spec and text is gone on with; anything else there is replaced. The caller removes
  // it once nobody needs to repeat the last step.
  std::string work_folder;
  // Facts for the manifest.
  std::string name;
  std::string job_id;
  int32_t attempt = 0;
  std::vector<std::string> inputs;
};

struct PrepareOptions {
  int threads = 1;
  // Text that is worked on at a time: bounds memory, and how late a stop request is seen.
  size_t batch_bytes = size_t{8} << 20;
  // Text between two points at which the work can be gone on with.
  size_t checkpoint_bytes = size_t{32} << 20;
};

struct PrepareProgress {
  std::string phase;        // "tokenizing c4"
  int64_t documents = 0;    // read, over all domains
  int64_t bytes = 0;        // of files, over all domains
  int64_t total_bytes = 0;  // of all files, twice where they are read twice
};

// Called on the caller's thread.
class PrepareObserver {
 public:
  virtual ~PrepareObserver() = default;
  // Between batches of documents; the last one has bytes = total_bytes.
  virtual void OnProgress(const PrepareProgress& progress) = 0;
  // An earlier process had come that far.
  virtual void OnResume(const PrepareProgress& progress) { static_cast<void>(progress); }
  // Work of an earlier process cannot be gone on with.
  virtual void OnRestart(const std::string& why) { static_cast<void>(why); }
  virtual bool StopRequested() = 0;
};

struct PreparedDataset {
  artefacts::WrittenManifest manifest;
  Json metadata;
  int64_t documents = 0;
  int64_t tokens = 0;
};

// What it writes depends on spec, text and batch_bytes alone: neither on threads nor on how often
// and where it was ended in between. INVALID_ARGUMENT and NOT_FOUND name the domain or the file;
// RESOURCE_EXHAUSTED on a full disk; CANCELLED where the observer asked to stop; UNAVAILABLE where
// another process works in the work folder. `output.folder` has no manifest.json unless the result
// is OK.
absl::StatusOr<PreparedDataset> PrepareDataset(const PrepareSpec& spec, const PrepareOutput& output,
                                               const PrepareOptions& options,
                                               PrepareObserver& observer);

}  // namespace moe::sampler
