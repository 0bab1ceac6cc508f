#include "sampler/token_shard.h"

#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>

#include "common/check.h"
#include "common/crc32c.h"
#include "common/status.h"

static_assert(std::endian::native == std::endian::little, "shards are little-endian");

namespace moe::sampler {
namespace {

// On disk: do not change without a new version (docs/formats/dataset.md).
constexpr char kMagic[8] = {'M', 'O', 'E', 'T', 'O', 'K', 'E', 'N'};
constexpr uint32_t kVersion = 1;
struct Header {
  char magic[8];
  uint32_t version;
  uint32_t token_bytes;  // 2 or 4
  uint64_t vocab_size;
  uint64_t zero;
};
static_assert(sizeof(Header) == 32);
struct Footer {
  uint64_t num_tokens;
  uint64_t num_documents;
  uint32_t zero;
  uint32_t crc32c;  // of every byte of the file before it
};
static_assert(sizeof(Footer) == 24);

constexpr int64_t kMaxVocabSize = int64_t{1} << 31;
constexpr size_t kCopyBytes = size_t{1} << 20;

uint32_t TokenBytes(uint64_t vocab_size) { return vocab_size <= (1u << 16) ? 2 : 4; }
// Tokens are padded with zeros so that the document ends are aligned.
uint64_t Padded(uint64_t size) { return (size + 7) / 8 * 8; }

template <typename Id>
void CopyIds(const uint8_t* source, uint32_t token_bytes, size_t count, Id* ids) {
  if (token_bytes == 2) {
    const auto* narrow = reinterpret_cast<const uint16_t*>(source);
    std::copy(narrow, narrow + count, ids);
  } else {
    const auto* wide = reinterpret_cast<const uint32_t*>(source);
    std::copy(wide, wide + count, ids);
  }
}

}  // namespace

absl::StatusOr<std::unique_ptr<TokenShardWriter>> TokenShardWriter::Resume(const std::string& path,
                                                                           int64_t vocab_size,
                                                                           const Extent& extent) {
  if (vocab_size < 1 || vocab_size > kMaxVocabSize) {
    return InvalidArgument("{}: a vocabulary of {} tokens; it must be 1 to {}", path, vocab_size,
                           kMaxVocabSize);
  }
  const uint64_t token_bytes = TokenBytes(static_cast<uint64_t>(vocab_size));
  const uint64_t size = extent.documents == 0
                            ? 0
                            : sizeof(Header) + static_cast<uint64_t>(extent.tokens) * token_bytes;
  MOE_ASSIGN_OR_RETURN(AppendFile file, AppendFile::Open(path, size));
  MOE_ASSIGN_OR_RETURN(
      AppendFile ends,
      AppendFile::Open(path + ".ends", 8 * static_cast<uint64_t>(extent.documents)));
  if (size == 0) {
    Header header{};
    std::memcpy(header.magic, kMagic, sizeof kMagic);
    header.version = kVersion;
    header.token_bytes = static_cast<uint32_t>(token_bytes);
    header.vocab_size = static_cast<uint64_t>(vocab_size);
    MOE_RETURN_IF_ERROR(file.Append(&header, sizeof header));
  }
  return std::unique_ptr<TokenShardWriter>(
      new TokenShardWriter(std::move(file), std::move(ends), vocab_size, extent));
}

TokenShardWriter::TokenShardWriter(AppendFile file, AppendFile ends, int64_t vocab_size,
                                   const Extent& extent)
    : file_(std::move(file)),
      ends_(std::move(ends)),
      vocab_size_(vocab_size),
      token_bytes_(TokenBytes(static_cast<uint64_t>(vocab_size))),
      extent_(extent) {}

TokenShardWriter::~TokenShardWriter() {
  if (finished_) ::unlink(ends_.path().c_str());
}

absl::Status TokenShardWriter::AppendDocument(std::span<const int32_t> tokens) {
  if (tokens.empty()) return InvalidArgument("{}: a document without tokens", file_.path());
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocab_size_) {
      return InvalidArgument("{}: token id {} is outside the vocabulary of {}", file_.path(), token,
                             vocab_size_);
    }
  }
  if (token_bytes_ == 4) {
    MOE_RETURN_IF_ERROR(file_.Append(tokens.data(), tokens.size_bytes()));
  } else {
    const std::vector<uint16_t> narrow(tokens.begin(), tokens.end());
    MOE_RETURN_IF_ERROR(file_.Append(narrow.data(), 2 * narrow.size()));
  }
  extent_.tokens += static_cast<int64_t>(tokens.size());
  ++extent_.documents;
  const auto end = static_cast<uint64_t>(extent_.tokens);
  return ends_.Append(&end, sizeof end);
}

absl::StatusOr<TokenShardWriter::Extent> TokenShardWriter::ExtentBeforeLast() {
  MOE_CHECK(extent_.documents > 0 && !finished_);
  Extent rest = {.tokens = 0, .documents = extent_.documents - 1};
  if (rest.documents == 0) return rest;
  MOE_RETURN_IF_ERROR(ends_.Flush());
  MOE_ASSIGN_OR_RETURN(const MappedFile ends, MappedFile::Open(ends_.path()));
  std::memcpy(&rest.tokens, ends.data() + 8 * (rest.documents - 1), sizeof rest.tokens);
  return rest;
}

uint64_t TokenShardWriter::FileSizeOf(const Extent& extent) const {
  return sizeof(Header) + static_cast<uint64_t>(extent.tokens) * token_bytes_;
}

absl::StatusOr<std::vector<int32_t>> TokenShardWriter::LastDocument() {
  MOE_ASSIGN_OR_RETURN(const Extent rest, ExtentBeforeLast());
  std::vector<int32_t> document(static_cast<size_t>(extent_.tokens - rest.tokens));
  MOE_RETURN_IF_ERROR(file_.Flush());
  MOE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(file_.path()));
  CopyIds(file.data() + FileSizeOf(rest), token_bytes_, document.size(), document.data());
  return document;
}

absl::Status TokenShardWriter::DropLastDocument() {
  MOE_ASSIGN_OR_RETURN(const Extent rest, ExtentBeforeLast());
  MOE_RETURN_IF_ERROR(file_.Truncate(FileSizeOf(rest)));
  MOE_RETURN_IF_ERROR(ends_.Truncate(8 * static_cast<uint64_t>(rest.documents)));
  extent_ = rest;
  return absl::OkStatus();
}

absl::Status TokenShardWriter::Sync() {
  MOE_RETURN_IF_ERROR(file_.Sync());
  return ends_.Sync();
}

absl::Status TokenShardWriter::AppendEnds() {
  MOE_RETURN_IF_ERROR(ends_.Flush());
  if (extent_.documents == 0) return absl::OkStatus();
  MOE_ASSIGN_OR_RETURN(const MappedFile ends, MappedFile::Open(ends_.path()));
  for (size_t begin = 0; begin < ends.size(); begin += kCopyBytes) {
    MOE_RETURN_IF_ERROR(
        file_.Append(ends.data() + begin, std::min(kCopyBytes, ends.size() - begin)));
  }
  return absl::OkStatus();
}

// Read back rather than added up along the way, so that a resumed writer needs no sum of the part
// that it did not write.
absl::StatusOr<uint32_t> TokenShardWriter::FileCrc32c() {
  MOE_RETURN_IF_ERROR(file_.Flush());
  MOE_ASSIGN_OR_RETURN(const MappedFile file, MappedFile::Open(file_.path()));
  return Crc32c(file.data(), file.size());
}

absl::Status TokenShardWriter::Finish() {
  const uint64_t size = static_cast<uint64_t>(extent_.tokens) * token_bytes_;
  const uint64_t zero = 0;
  MOE_RETURN_IF_ERROR(file_.Append(&zero, Padded(size) - size));
  MOE_RETURN_IF_ERROR(AppendEnds());
  Footer footer{};
  footer.num_tokens = static_cast<uint64_t>(extent_.tokens);
  footer.num_documents = static_cast<uint64_t>(extent_.documents);
  MOE_RETURN_IF_ERROR(file_.Append(&footer, offsetof(Footer, crc32c)));
  MOE_ASSIGN_OR_RETURN(const uint32_t crc32c, FileCrc32c());
  MOE_RETURN_IF_ERROR(file_.Append(&crc32c, sizeof crc32c));
  MOE_RETURN_IF_ERROR(file_.Sync());
  finished_ = true;
  return absl::OkStatus();
}

absl::StatusOr<TokenShard> TokenShard::Open(const std::string& path) {
  TokenShard shard;
  MOE_ASSIGN_OR_RETURN(shard.file_, MappedFile::Open(path));
  const uint64_t file_size = shard.file_.size();
  if (file_size < sizeof(Header) + sizeof(Footer)) {
    return DataLoss("{} is {} bytes long, too short for a token shard; it is truncated", path,
                    file_size);
  }
  Header header;
  std::memcpy(&header, shard.file_.data(), sizeof header);
  if (std::memcmp(header.magic, kMagic, sizeof kMagic) != 0) {
    return DataLoss("{} is not a token shard: it does not begin with MOETOKEN", path);
  }
  Footer footer;
  std::memcpy(&footer, shard.file_.data() + file_size - sizeof footer, sizeof footer);
  const uint32_t crc32c = Crc32c(shard.file_.data(), file_size - sizeof crc32c);
  if (crc32c != footer.crc32c) {
    return DataLoss("{} is corrupt: its CRC-32C is {:08x} and the file says {:08x}", path, crc32c,
                    footer.crc32c);
  }
  shard.file_crc32c_ = Crc32c(&footer.crc32c, sizeof footer.crc32c, crc32c);
  if (header.version != kVersion) {
    return DataLoss("{} has version {} of the token shard format; this program reads version {}",
                    path, header.version, kVersion);
  }
  // The checksum was right, so what follows can only be a file that another program made.
  if (header.vocab_size < 1 || header.vocab_size > static_cast<uint64_t>(kMaxVocabSize) ||
      header.token_bytes != TokenBytes(header.vocab_size)) {
    return DataLoss("{} has a vocabulary of {} with {} bytes a token, which do not go together",
                    path, header.vocab_size, header.token_bytes);
  }
  const uint64_t room = file_size - sizeof(Header) - sizeof(Footer);
  if (footer.num_tokens > room / header.token_bytes || footer.num_documents > room / 8 ||
      Padded(footer.num_tokens * header.token_bytes) + 8 * footer.num_documents != room) {
    return DataLoss("{} has {} bytes for its {} tokens in {} documents, which need another size",
                    path, room, footer.num_tokens, footer.num_documents);
  }
  shard.token_bytes_ = header.token_bytes;
  shard.vocab_size_ = static_cast<int64_t>(header.vocab_size);
  shard.num_tokens_ = static_cast<int64_t>(footer.num_tokens);
  shard.num_documents_ = static_cast<int64_t>(footer.num_documents);
  shard.document_ends_ =
      shard.file_.data() + sizeof(Header) + Padded(footer.num_tokens * header.token_bytes);
  int64_t previous = 0;
  for (int64_t i = 0; i < shard.num_documents_; ++i) {
    const int64_t end = shard.DocumentEnd(i);
    if (end <= previous || end > shard.num_tokens_) {
      return DataLoss("{}: document {} ends at token {}, after one that ends at {}, of {} tokens",
                      path, i, end, previous, shard.num_tokens_);
    }
    previous = end;
  }
  if (previous != shard.num_tokens_) {
    return DataLoss("{}: the documents end at token {} of {}", path, previous, shard.num_tokens_);
  }
  return shard;
}

int64_t TokenShard::DocumentEnd(int64_t index) const {
  MOE_CHECK(index >= 0 && index < num_documents_);
  uint64_t end;
  std::memcpy(&end, document_ends_ + 8 * index, sizeof end);
  return static_cast<int64_t>(end);
}

int64_t TokenShard::DocumentOf(int64_t token) const {
  MOE_CHECK(token >= 0 && token < num_tokens_);
  int64_t low = 0, high = num_documents_ - 1;  // it is one of low .. high
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    if (DocumentEnd(middle) > token) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

void TokenShard::Read(int64_t begin, int64_t count, int64_t* tokens) const {
  MOE_CHECK(begin >= 0 && count >= 0 && begin <= num_tokens_ && count <= num_tokens_ - begin);
  const uint8_t* source = file_.data() + sizeof(Header) + begin * token_bytes_;
  CopyIds(source, token_bytes_, static_cast<size_t>(count), tokens);
}

}  // namespace moe::sampler
