#include "sampler/line_reader.h"

#include <fcntl.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cerrno>
#include <cstring>

#include "common/file.h"
#include "common/status.h"

namespace moe::sampler {
namespace {

constexpr size_t kBufferBytes = size_t{1} << 18;

bool EndsWith(const std::string& text, const std::string& end) {
  return text.size() >= end.size() && text.compare(text.size() - end.size(), end.size(), end) == 0;
}

class PlainSource final : public ByteSource {
 public:
  PlainSource(std::string path, FileDescriptor fd) : path_(std::move(path)), fd_(std::move(fd)) {}

  absl::StatusOr<size_t> Read(char* data, size_t size) override {
    for (;;) {
      const ssize_t got = ::read(fd_.get(), data, size);
      if (got >= 0) {
        bytes_read_ += got;
        return static_cast<size_t>(got);
      }
      if (errno != EINTR) return ErrnoStatus(errno, "cannot read " + path_);
    }
  }
  int64_t bytes_read() const override { return bytes_read_; }

 private:
  const std::string path_;
  const FileDescriptor fd_;
  int64_t bytes_read_ = 0;
};

class GzipSource final : public ByteSource {
 public:
  // Takes the descriptor over.
  GzipSource(std::string path, gzFile file) : path_(std::move(path)), file_(file) {}
  ~GzipSource() override { gzclose(file_); }

  absl::StatusOr<size_t> Read(char* data, size_t size) override {
    const int got = gzread(file_, data, static_cast<unsigned>(size));
    // zlib passes a file through that is no gzip file.
    if (got > 0 && gzdirect(file_) == 1) {
      return DataLoss("{} is not a gzip file; rename it if it is not compressed", path_);
    }
    int error = Z_OK;
    const char* message = gzerror(file_, &error);
    // At the end of a truncated file zlib returns what it has and notes Z_BUF_ERROR.
    if (got < 0 || (got == 0 && error != Z_OK && error != Z_STREAM_END)) {
      return DataLoss("{} is broken or truncated: {}", path_, message);
    }
    return static_cast<size_t>(got);
  }
  int64_t bytes_read() const override { return gzoffset(file_); }

 private:
  const std::string path_;
  const gzFile file_;
};

class ZstdSource final : public ByteSource {
 public:
  ZstdSource(std::string path, std::unique_ptr<ByteSource> compressed)
      : path_(std::move(path)),
        compressed_(std::move(compressed)),
        buffer_(ZSTD_DStreamInSize()),
        stream_(ZSTD_createDStream()) {}
  ~ZstdSource() override { ZSTD_freeDStream(stream_); }

  absl::StatusOr<size_t> Read(char* data, size_t size) override {
    ZSTD_outBuffer out = {data, size, 0};
    while (out.pos == 0) {
      if (in_.pos == in_.size) {
        MOE_ASSIGN_OR_RETURN(const size_t got, compressed_->Read(buffer_.data(), buffer_.size()));
        if (got == 0 && inside_frame_) return DataLoss("{} is truncated", path_);
        if (got == 0) return size_t{0};
        in_ = {buffer_.data(), got, 0};
      }
      const size_t rest = ZSTD_decompressStream(stream_, &out, &in_);
      if (ZSTD_isError(rest)) {
        return DataLoss("{} is broken: {}", path_, ZSTD_getErrorName(rest));
      }
      inside_frame_ = rest != 0;
    }
    return out.pos;
  }
  int64_t bytes_read() const override { return compressed_->bytes_read(); }

 private:
  const std::string path_;
  const std::unique_ptr<ByteSource> compressed_;
  std::vector<char> buffer_;
  ZSTD_inBuffer in_ = {nullptr, 0, 0};
  ZSTD_DStream* const stream_;
  bool inside_frame_ = false;
};

}  // namespace

absl::StatusOr<std::unique_ptr<ByteSource>> OpenByteSource(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoStatus(errno, "cannot open " + path);
  if (EndsWith(path, ".gz")) {
    const gzFile file = gzdopen(fd, "rb");
    if (file == nullptr) {
      ::close(fd);
      return ResourceExhausted("{}: no memory to decompress it", path);
    }
    gzbuffer(file, kBufferBytes);
    return std::make_unique<GzipSource>(path, file);
  }
  std::unique_ptr<ByteSource> plain = std::make_unique<PlainSource>(path, FileDescriptor(fd));
  if (EndsWith(path, ".zst")) return std::make_unique<ZstdSource>(path, std::move(plain));
  return plain;
}

LineReader::LineReader(std::unique_ptr<ByteSource> source, size_t max_line_bytes)
    : source_(std::move(source)), max_line_bytes_(max_line_bytes), buffer_(kBufferBytes) {}

absl::StatusOr<LineReader> LineReader::Open(const std::string& path, size_t max_line_bytes) {
  MOE_ASSIGN_OR_RETURN(std::unique_ptr<ByteSource> source, OpenByteSource(path));
  return LineReader(std::move(source), max_line_bytes);
}

absl::StatusOr<LineReader::Line> LineReader::Next(std::string& line) {
  line.clear();
  bool too_long = false, has_bytes = false;
  for (;;) {
    if (begin_ == end_) {
      MOE_ASSIGN_OR_RETURN(end_, source_->Read(buffer_.data(), buffer_.size()));
      begin_ = 0;
      if (end_ == 0) {
        if (!has_bytes) return Line::kEndOfFile;
        return too_long ? Line::kTooLong : Line::kText;
      }
    }
    const char* const begin = buffer_.data() + begin_;
    const auto* newline = static_cast<const char*>(std::memchr(begin, '\n', end_ - begin_));
    const size_t size = newline == nullptr ? end_ - begin_ : static_cast<size_t>(newline - begin);
    too_long = too_long || line.size() + size > max_line_bytes_;
    if (too_long) {
      line.clear();
    } else {
      line.append(begin, size);
    }
    has_bytes = true;
    begin_ += size + (newline == nullptr ? 0 : 1);
    if (newline != nullptr) return too_long ? Line::kTooLong : Line::kText;
  }
}

}  // namespace moe::sampler
