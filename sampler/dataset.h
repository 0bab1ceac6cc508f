// A dataset artefact, memory-mapped: packed tokens of each domain, for training and held out
// (docs/formats/dataset.md).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "storage/artefacts/vocabulary.h"

namespace moe::sampler {

enum class Split { kTrain, kHeldout };

// Where the tokens of a domain are inside the artefact: "train/c4.tokens".
std::string ShardPath(Split split, const std::string& domain);
// Of conversations, which of these tokens count in the loss: "train/c4.targets".
std::string TargetMaskPath(Split split, const std::string& domain);

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
  artefacts::Vocabulary vocabulary() const;
  int64_t vocab_size() const { return vocabulary().size; }
  uint32_t manifest_crc32c() const;
  // Whether it holds conversations, for instruction tuning, instead of running text.
  bool has_conversations() const;

  // Of running text, samples are the consecutive, non-overlapping pieces of `length` tokens of a
  // domain's stream; the remainder at its end is not used. Of conversations, each is a sample, of
  // which the first `length` tokens are read.
  int64_t NumSamples(Split split, int domain, int64_t length) const;
  // Tokens of a sample: `length`, or fewer for a conversation.
  int64_t SampleLength(Split split, int domain, int64_t index, int64_t length) const;
  // Tokens of a sample that count in the loss: all but the first, or of a conversation those of the
  // answers.
  int64_t NumTargets(Split split, int domain, int64_t index, int64_t length) const;
  // Copies sample `index` to tokens[0 .. SampleLength).
  void ReadSample(Split split, int domain, int64_t index, int64_t length, int64_t* tokens) const;
  // Where documents begin inside sample `index`: ascending offsets below SampleLength. The first is
  // 0, where the sample begins, mostly within a document.
  std::vector<int64_t> DocumentStarts(Split split, int domain, int64_t index, int64_t length) const;
  // The same, with targets[t] = tokens[t + 1] where that counts in the loss, else -1.
  void ReadSample(Split split, int domain, int64_t index, int64_t length, int64_t* tokens,
                  int64_t* targets) const;

 private:
  class Impl;
  explicit Dataset(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moe::sampler
