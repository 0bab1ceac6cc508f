// One file of tokens: the documents of one domain and split, end to end (docs/formats/dataset.md).
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/file.h"

namespace moe::sampler {

// Writes a shard in one pass, append-only. Not thread-safe.
class TokenShardWriter {
 public:
  // Creates or replaces `path`. `vocab_size` is 1 to 2^31; up to 2^16 a token takes two bytes.
  static absl::StatusOr<std::unique_ptr<TokenShardWriter>> Create(const std::string& path,
                                                                  int64_t vocab_size);
  ~TokenShardWriter();  // an unfinished file is removed

  // INVALID_ARGUMENT for an id outside the vocabulary or an empty document.
  absl::Status AppendDocument(std::span<const int32_t> tokens);
  // Writes the end of the file and syncs it. RESOURCE_EXHAUSTED on a full disk.
  absl::Status Finish();

  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return static_cast<int64_t>(document_ends_.size()); }

 private:
  TokenShardWriter(std::string path, FileDescriptor fd, int64_t vocab_size);
  absl::Status Write(const void* data, size_t size);
  absl::Status Flush();

  const std::string path_;
  FileDescriptor fd_;
  const int64_t vocab_size_;
  const uint32_t token_bytes_;
  std::vector<uint8_t> buffer_;
  uint32_t crc32c_ = 0;
  int64_t num_tokens_ = 0;
  std::vector<uint64_t> document_ends_;
  bool finished_ = false;
};

// A shard, memory-mapped. Thread-safe once open.
class TokenShard {
 public:
  // Reads the whole file once and checks everything: DATA_LOSS names the file and what is wrong.
  static absl::StatusOr<TokenShard> Open(const std::string& path);

  int64_t vocab_size() const { return vocab_size_; }
  int64_t num_tokens() const { return num_tokens_; }
  int64_t num_documents() const { return num_documents_; }
  // One past the last token of document `index`.
  int64_t DocumentEnd(int64_t index) const;
  // Copies tokens [begin, begin + count) to `tokens`; the range must be inside the shard.
  void Read(int64_t begin, int64_t count, int64_t* tokens) const;
  // Of the whole file, as in manifest.json.
  uint32_t file_crc32c() const { return file_crc32c_; }

 private:
  MappedFile file_;
  uint32_t token_bytes_ = 0;
  uint32_t file_crc32c_ = 0;
  int64_t vocab_size_ = 0;
  int64_t num_tokens_ = 0;
  int64_t num_documents_ = 0;
  const uint8_t* document_ends_ = nullptr;
};

}  // namespace moe::sampler
