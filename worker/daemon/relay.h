// What of a rank's files the coordinator has: the cursors of at-least-once delivery. Nothing is
// buffered: the files are the outbox, and a lost session is continued by going back in them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/file.h"
#include "moe/v1/report.pb.h"

namespace moe::worker {

// Reads reports.jsonl in batches. Not thread-safe.
class ReportRelay {
 public:
  explicit ReportRelay(std::string path) : path_(std::move(path)) {}

  // Continue with the report after `seq`; what was read and not acknowledged is read again.
  void Rewind(int64_t seq);

  // The next reports, about `max_bytes` of them, at least one where there is one. Empty where there
  // is nothing more yet: a last line without its line break is not read. DATA_LOSS where the file
  // breaks its format; nothing after that place can be read.
  absl::StatusOr<std::vector<v1::RankReport>> Read(size_t max_bytes);

  // The coordinator has made reports up to `seq` durable.
  void Acknowledge(int64_t seq);

  // Bytes read since the last Rewind and not acknowledged.
  size_t unacknowledged_bytes() const { return unacknowledged_bytes_; }

 private:
  struct Batch {
    int64_t last_seq;
    int64_t end_offset;
    size_t size_bytes;
  };

  absl::StatusOr<v1::RankReport> Parse(const std::string& line) const;

  const std::string path_;
  FileDescriptor file_;
  // Report N is line N, so that skipping to a seq needs no parsing.
  int64_t next_seq_ = 1;  // of the line at next_offset_
  int64_t next_offset_ = 0;
  int64_t skip_through_seq_ = 0;  // lines up to this one are not wanted
  // The last line known to be acknowledged: where a rewind starts from.
  int64_t acknowledged_seq_ = 0;
  int64_t acknowledged_offset_ = 0;
  std::deque<Batch> unacknowledged_;
  size_t unacknowledged_bytes_ = 0;
};

// Reads a log in chunks. Not thread-safe.
class LogRelay {
 public:
  explicit LogRelay(std::string path) : path_(std::move(path)) {}

  struct Chunk {
    int64_t offset = 0;
    std::string data;
  };

  // Continue at byte `offset`.
  void Rewind(int64_t offset);
  // The next bytes, at most `max_bytes`; none where there is nothing more yet, or no file.
  absl::StatusOr<Chunk> Read(size_t max_bytes);
  // The coordinator has made the log durable up to byte `offset`.
  void Acknowledge(int64_t offset);
  // Bytes read since the last Rewind and not acknowledged.
  size_t unacknowledged_bytes() const;

 private:
  const std::string path_;
  FileDescriptor file_;
  int64_t next_offset_ = 0;
  int64_t acknowledged_offset_ = 0;
};

}  // namespace moe::worker
