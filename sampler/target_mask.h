// Which tokens of a shard count in the loss, one bit each: in a dataset of conversations, those of
// the answers (docs/formats/dataset.md).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file.h"
#include "sampler/append_file.h"

namespace moe::sampler {

// Writes a mask beside a shard, append-only, so that it can be resumed: what was appended before a
// Sync survives the process. Until the mask is finished it is a byte per token, in PATH.flags. Not
// thread-safe.
class TargetMaskWriter {
 public:
  // Goes on after the first `num_tokens` of what an earlier writer synced; what is behind them is
  // cut off. 0 makes a new mask. DATA_LOSS where the file holds fewer.
  static absl::StatusOr<std::unique_ptr<TargetMaskWriter>> Resume(const std::string& path,
                                                                  int64_t num_tokens);
  // Removes PATH.flags of a finished mask; leaves an unfinished one to be resumed.
  ~TargetMaskWriter();

  absl::Status Append(const std::vector<bool>& is_target);
  // The newest `count` tokens, of at least as many; and removes them.
  absl::StatusOr<std::vector<bool>> Last(int64_t count);
  absl::Status DropLast(int64_t count);
  // Makes all tokens so far durable.
  absl::Status Sync() { return flags_.Sync(); }
  // Writes the file, durably. RESOURCE_EXHAUSTED on a full disk.
  absl::Status Finish();

  int64_t num_tokens() const { return static_cast<int64_t>(flags_.size()); }
  // Once it is finished.
  int64_t num_targets() const { return num_targets_; }

 private:
  TargetMaskWriter(std::string path, AppendFile flags)
      : path_(std::move(path)), flags_(std::move(flags)) {}

  const std::string path_;
  AppendFile flags_;
  int64_t num_targets_ = 0;
  bool finished_ = false;
};

// A mask, memory-mapped. Thread-safe once open.
class TargetMask {
 public:
  // Checks the whole file: DATA_LOSS names it and what is wrong.
  static absl::StatusOr<TargetMask> Open(const std::string& path);

  int64_t num_tokens() const { return num_tokens_; }
  bool IsTarget(int64_t token) const { return bits_[token / 8] >> (token % 8) & 1; }
  // Targets among the tokens [begin, end).
  int64_t Count(int64_t begin, int64_t end) const;
  // Of the whole file, as in manifest.json.
  uint32_t file_crc32c() const { return file_crc32c_; }

 private:
  MappedFile file_;
  const uint8_t* bits_ = nullptr;
  int64_t num_tokens_ = 0;
  uint32_t file_crc32c_ = 0;
};

}  // namespace moe::sampler
