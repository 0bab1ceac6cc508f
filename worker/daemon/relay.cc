#include "worker/daemon/relay.h"

#include <fcntl.h>
#include <google/protobuf/util/json_util.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "common/line_buffer.h"
#include "common/run_channel.h"
#include "common/status.h"

namespace moe::worker {
namespace {

constexpr size_t kReadBytes = size_t{64} << 10;

// Opens `path` into `file` unless it is open. False where there is no file yet.
absl::StatusOr<bool> OpenIfExists(const std::string& path, FileDescriptor& file) {
  if (file.valid()) return true;
  file = FileDescriptor(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (file.valid()) return true;
  if (errno == ENOENT) return false;
  return ErrnoStatus(errno, "cannot open " + path);
}

// What the file has from `offset` on, at most `max_bytes`. Asks for its size first: mostly there is
// nothing new, and then nothing is set aside for it.
absl::StatusOr<std::string> ReadFrom(const FileDescriptor& file, const std::string& path,
                                     int64_t offset, size_t max_bytes) {
  struct stat info;
  if (::fstat(file.get(), &info) != 0) return ErrnoStatus(errno, "cannot read " + path);
  if (info.st_size <= offset) return std::string();
  std::string bytes(std::min(max_bytes, static_cast<size_t>(info.st_size - offset)), '\0');
  for (;;) {
    const ssize_t n = ::pread(file.get(), bytes.data(), bytes.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoStatus(errno, "cannot read " + path);
    bytes.resize(static_cast<size_t>(n));
    return bytes;
  }
}

}  // namespace

void ReportRelay::Rewind(int64_t seq) {
  unacknowledged_.clear();
  unacknowledged_bytes_ = 0;
  if (seq < acknowledged_seq_) {
    // The coordinator has less than it said it had: it decides.
    acknowledged_seq_ = 0;
    acknowledged_offset_ = 0;
  }
  next_seq_ = acknowledged_seq_ + 1;
  next_offset_ = acknowledged_offset_;
  skip_through_seq_ = seq;
}

absl::StatusOr<std::vector<v1::RankReport>> ReportRelay::Read(size_t max_bytes) {
  std::vector<v1::RankReport> reports;
  MOE_ASSIGN_OR_RETURN(const bool exists, OpenIfExists(path_, file_));
  if (!exists) return reports;

  LineBuffer lines(kMaxRunLineBytes);
  int64_t read_offset = next_offset_;
  size_t batch_bytes = 0;
  while (batch_bytes < max_bytes) {
    MOE_ASSIGN_OR_RETURN(const std::string bytes, ReadFrom(file_, path_, read_offset, kReadBytes));
    if (bytes.empty()) break;
    read_offset += static_cast<int64_t>(bytes.size());
    lines.Append(bytes.data(), bytes.size());
    std::string line;
    while (batch_bytes < max_bytes && lines.Next(&line)) {
      if (next_seq_ > skip_through_seq_) {
        MOE_ASSIGN_OR_RETURN(v1::RankReport report, Parse(line));
        reports.push_back(std::move(report));
        batch_bytes += line.size() + 1;
      }
      next_offset_ += static_cast<int64_t>(line.size()) + 1;
      ++next_seq_;
    }
    if (lines.overlong()) {
      return DataLoss("{}: line {} is longer than {} bytes", path_, next_seq_, kMaxRunLineBytes);
    }
  }
  if (!reports.empty()) {
    unacknowledged_.push_back(
        {.last_seq = next_seq_ - 1, .end_offset = next_offset_, .size_bytes = batch_bytes});
    unacknowledged_bytes_ += batch_bytes;
  }
  return reports;
}

absl::StatusOr<v1::RankReport> ReportRelay::Parse(const std::string& line) const {
  v1::RankReport report;
  google::protobuf::util::JsonParseOptions options;
  options.ignore_unknown_fields = true;  // a rank may be newer than its worker
  const auto parsed = google::protobuf::util::JsonStringToMessage(line, &report, options);
  if (!parsed.ok()) {
    return DataLoss("{}: line {} is not a report: {}", path_, next_seq_, parsed.ToString());
  }
  if (report.seq() != next_seq_) {
    return DataLoss("{}: line {} has seq {}; they must be equal", path_, next_seq_, report.seq());
  }
  return report;
}

void ReportRelay::Acknowledge(int64_t seq) {
  while (!unacknowledged_.empty() && unacknowledged_.front().last_seq <= seq) {
    const Batch& batch = unacknowledged_.front();
    acknowledged_seq_ = batch.last_seq;
    acknowledged_offset_ = batch.end_offset;
    unacknowledged_bytes_ -= batch.size_bytes;
    unacknowledged_.pop_front();
  }
}

void LogRelay::Rewind(int64_t offset) { next_offset_ = acknowledged_offset_ = offset; }

absl::StatusOr<LogRelay::Chunk> LogRelay::Read(size_t max_bytes) {
  Chunk chunk{.offset = next_offset_, .data = ""};
  MOE_ASSIGN_OR_RETURN(const bool exists, OpenIfExists(path_, file_));
  if (!exists) return chunk;
  MOE_ASSIGN_OR_RETURN(chunk.data, ReadFrom(file_, path_, next_offset_, max_bytes));
  next_offset_ += static_cast<int64_t>(chunk.data.size());
  return chunk;
}

void LogRelay::Acknowledge(int64_t offset) {
  acknowledged_offset_ = std::clamp(offset, acknowledged_offset_, next_offset_);
}

size_t LogRelay::unacknowledged_bytes() const {
  return static_cast<size_t>(next_offset_ - acknowledged_offset_);
}

}  // namespace moe::worker
