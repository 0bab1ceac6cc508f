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
#include "sampler/append_file.h"

namespace moe::sampler {

// Writes a shard in one pass, append-only, so that it can be resumed: what was appended before a
// Sync survives the process. Where the documents end is kept in a second file, PATH.ends, until the
// shard is finished. Not thread-safe.
class TokenShardWriter {
 public:
  // How much of a shard is there.
  struct Extent {
    int64_t tokens = 0;
    int64_t documents = 0;
  };

  // Creates or replaces `path`. `vocab_size` is 1 to 2^31; up to 2^16 a token takes two bytes.
  static absl::StatusOr<std::unique_ptr<TokenShardWriter>> Create(const std::string& path,
                                                                  int64_t vocab_size) {
    return Resume(path, vocab_size, {});
  }
  // Goes on after the first `extent` of what an earlier writer synced; what is behind it is cut
  // off. DATA_LOSS where the files hold less.
  static absl::StatusOr<std::unique_ptr<TokenShardWriter>> Resume(const std::string& path,
                                                                  int64_t vocab_size,
                                                                  const Extent& extent);
  // Removes PATH.ends of a finished shard; leaves an unfinished one to be resumed.
  ~TokenShardWriter();

  // INVALID_ARGUMENT for an id outside the vocabulary or an empty document.
  absl::Status AppendDocument(std::span<const int32_t> tokens);
  // The newest document, of at least one; and removes it.
  absl::StatusOr<std::vector<int32_t>> LastDocument();
  absl::Status DropLastDocument();
  // Makes all documents so far durable.
  absl::Status Sync();
  // Writes the end of the file and syncs it. RESOURCE_EXHAUSTED on a full disk.
  absl::Status Finish();

  const Extent& extent() const { return extent_; }

 private:
  TokenShardWriter(AppendFile tokens, AppendFile ends, int64_t vocab_size, const Extent& extent);
  absl::StatusOr<Extent> ExtentBeforeLast();
  uint64_t FileSizeOf(const Extent& extent) const;
  absl::Status AppendEnds();
  absl::StatusOr<uint32_t> FileCrc32c();

  AppendFile file_;
  AppendFile ends_;
  const int64_t vocab_size_;
  const uint32_t token_bytes_;
  Extent extent_;
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
  // Which document token `token` of the shard belongs to.
  int64_t DocumentOf(int64_t token) const;
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
