#include "sampler/token_shard.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
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
constexpr size_t kWriteBytes = size_t{1} << 20;

uint32_t TokenBytes(uint64_t vocab_size) { return vocab_size <= (1u << 16) ? 2 : 4; }
// Tokens are padded with zeros so that the document ends are aligned.
uint64_t Padded(uint64_t size) { return (size + 7) / 8 * 8; }

}  // namespace

absl::StatusOr<std::unique_ptr<TokenShardWriter>> TokenShardWriter::Create(const std::string& path,
                                                                           int64_t vocab_size) {
  if (vocab_size < 1 || vocab_size > kMaxVocabSize) {
    return InvalidArgument("{}: a vocabulary of {} tokens; it must be 1 to {}", path, vocab_size,
                           kMaxVocabSize);
  }
  FileDescriptor fd(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!fd.valid()) return ErrnoStatus(errno, "cannot create " + path);
  std::unique_ptr<TokenShardWriter> writer(new TokenShardWriter(path, std::move(fd), vocab_size));
  Header header{};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  header.version = kVersion;
  header.token_bytes = writer->token_bytes_;
  header.vocab_size = static_cast<uint64_t>(vocab_size);
  MOE_RETURN_IF_ERROR(writer->Write(&header, sizeof header));
  return writer;
}

TokenShardWriter::TokenShardWriter(std::string path, FileDescriptor fd, int64_t vocab_size)
    : path_(std::move(path)),
      fd_(std::move(fd)),
      vocab_size_(vocab_size),
      token_bytes_(TokenBytes(static_cast<uint64_t>(vocab_size))) {}

TokenShardWriter::~TokenShardWriter() {
  if (!finished_) ::unlink(path_.c_str());
}

absl::Status TokenShardWriter::Write(const void* data, size_t size) {
  const auto* p = static_cast<const uint8_t*>(data);
  buffer_.insert(buffer_.end(), p, p + size);
  return buffer_.size() >= kWriteBytes ? Flush() : absl::OkStatus();
}

absl::Status TokenShardWriter::Flush() {
  crc32c_ = Crc32c(buffer_.data(), buffer_.size(), crc32c_);
  MOE_RETURN_IF_ERROR(WriteAll(fd_.get(), buffer_.data(), buffer_.size(), path_));
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status TokenShardWriter::AppendDocument(std::span<const int32_t> tokens) {
  if (tokens.empty()) return InvalidArgument("{}: a document without tokens", path_);
  for (const int32_t token : tokens) {
    if (token < 0 || token >= vocab_size_) {
      return InvalidArgument("{}: token id {} is outside the vocabulary of {}", path_, token,
                             vocab_size_);
    }
  }
  if (token_bytes_ == 4) {
    MOE_RETURN_IF_ERROR(Write(tokens.data(), tokens.size_bytes()));
  } else {
    const std::vector<uint16_t> narrow(tokens.begin(), tokens.end());
    MOE_RETURN_IF_ERROR(Write(narrow.data(), 2 * narrow.size()));
  }
  num_tokens_ += static_cast<int64_t>(tokens.size());
  document_ends_.push_back(static_cast<uint64_t>(num_tokens_));
  return absl::OkStatus();
}

absl::Status TokenShardWriter::Finish() {
  const uint64_t size = static_cast<uint64_t>(num_tokens_) * token_bytes_;
  const uint64_t zero = 0;
  MOE_RETURN_IF_ERROR(Write(&zero, Padded(size) - size));
  MOE_RETURN_IF_ERROR(Write(document_ends_.data(), 8 * document_ends_.size()));
  Footer footer{};
  footer.num_tokens = static_cast<uint64_t>(num_tokens_);
  footer.num_documents = document_ends_.size();
  MOE_RETURN_IF_ERROR(Write(&footer, offsetof(Footer, crc32c)));
  MOE_RETURN_IF_ERROR(Flush());
  MOE_RETURN_IF_ERROR(WriteAll(fd_.get(), &crc32c_, sizeof crc32c_, path_));
  if (::fsync(fd_.get()) != 0) return ErrnoStatus(errno, "cannot sync " + path_);
  fd_.Close();
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

void TokenShard::Read(int64_t begin, int64_t count, int64_t* tokens) const {
  MOE_CHECK(begin >= 0 && count >= 0 && begin <= num_tokens_ && count <= num_tokens_ - begin);
  const uint8_t* source = file_.data() + sizeof(Header) + begin * token_bytes_;
  if (token_bytes_ == 2) {
    const auto* ids = reinterpret_cast<const uint16_t*>(source);
    std::copy(ids, ids + count, tokens);
  } else {
    const auto* ids = reinterpret_cast<const uint32_t*>(source);
    std::copy(ids, ids + count, tokens);
  }
}

}  // namespace moe::sampler
