// A dataset artefact, memory-mapped: packed tokens of each domain, for training and held out
// (docs/formats/dataset.md).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moe::sampler {

enum class Split { kTrain, kHeldout };

// Where the tokens of a domain are inside the artefact: "train/c4.tokens".
std::string ShardPath(Split split, const std::string& domain);

struct DatasetDomain {
  std::string name;
  int64_t train_tokens = 0;
  int64_t heldout_tokens = 0;
};

// Thread-safe once open.
class Dataset {
 public:
  // Verifies manifest and CRC-32C of every shard. Errors name the file.
  static absl::StatusOr<std::unique_ptr<Dataset>> Open(const std::string& path);
  ~Dataset();

  const std::vector<DatasetDomain>& domains() const;
  int64_t vocab_size() const;
  uint32_t manifest_crc32c() const;

  // Samples are the consecutive, non-overlapping pieces of `length` tokens of a domain's stream;
  // the remainder at its end is not used.
  int64_t NumSamples(Split split, int domain, int64_t length) const;
  // Copies sample `index` to tokens[0 .. length).
  void ReadSample(Split split, int domain, int64_t index, int64_t length, int64_t* tokens) const;

 private:
  class Impl;
  explicit Dataset(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moe::sampler
