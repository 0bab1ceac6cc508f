// Raw text to a dataset artefact (docs/formats/dataset.md): reads the documents of each domain,
// splits off what is held out, tokenises and writes shards, data card and manifest.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "sampler/documents.h"
#include "storage/artefacts/manifest.h"

namespace moe::sampler {

// moe.v1.PrepareSpec with its defaults, and where the inputs are.
struct PrepareSpec {
  struct Domain {
    std::string name;
    std::vector<std::string> paths;
    std::string set{};  // only the lines of this set; "": all
  };
  std::string tokenizer_path;
  std::vector<Domain> domains;
  double heldout_fraction = 0.05;
  int64_t max_tokens_per_domain = 0;  // 0: no limit
  std::optional<bool> add_bos;        // default: what the tokenizer's settings say
  OnBadDocument on_bad_document = OnBadDocument::kSkip;
  bool remove_duplicates = false;
  int64_t min_characters = 0;
};

struct PrepareOutput {
  std::string folder;  // made where it is not there; must be empty
  // Facts for the manifest.
  std::string name;
  std::string job_id;
  int32_t attempt = 0;
  std::vector<std::string> inputs;
};

struct PrepareProgress {
  std::string domain;       // being tokenised
  int64_t documents = 0;    // done, over all domains
  int64_t bytes = 0;        // of files read to their end, over all domains
  int64_t total_bytes = 0;  // of all files
};

// Called between batches of documents, on the caller's thread.
class PrepareObserver {
 public:
  virtual ~PrepareObserver() = default;
  virtual void OnProgress(const PrepareProgress& progress) = 0;
  virtual bool StopRequested() = 0;
};

struct PreparedDataset {
  artefacts::WrittenManifest manifest;
  Json metadata;
  int64_t documents = 0;
  int64_t tokens = 0;
};

// What it writes depends on spec and text alone, not on `threads`. INVALID_ARGUMENT and NOT_FOUND
// name the domain or the file; RESOURCE_EXHAUSTED on a full disk; CANCELLED where the observer
// asked to stop. The folder has no manifest.json unless the result is OK.
absl::StatusOr<PreparedDataset> PrepareDataset(const PrepareSpec& spec, const PrepareOutput& output,
                                               int threads, PrepareObserver& observer);

}  // namespace moe::sampler
