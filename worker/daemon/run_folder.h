// The worker's side of the run folders (docs/formats/run-folder.md): what is on disk of the
// attempts of this worker. No state of its own.
//
// Nothing here is synced: what is written survives every death of a process, and a machine that
// loses power loses its ranks, and with them every use of their folders.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/process_info.h"

namespace moe::worker {

// Names an attempt: the fencing token.
struct AttemptKey {
  std::string job_id;
  int attempt = 0;

  // "j17.2": its folder, and its name in logs.
  std::string Name() const;
  // INVALID_ARGUMENT where `name` is not of that form, or would not be safe as a folder's name.
  static absl::StatusOr<AttemptKey> Parse(const std::string& name);

  friend auto operator<=>(const AttemptKey&, const AttemptKey&) = default;
};

// How a process ended.
struct ProcessExit {
  int exit_code = -1;  // -1 where it is not known or a signal ended it
  int signal = 0;      // 0 for none
  friend bool operator==(const ProcessExit&, const ProcessExit&) = default;
};

// The folder of one rank.
class RankFolder {
 public:
  explicit RankFolder(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string reports_path() const { return path_ + "/reports.jsonl"; }
  std::string log_path() const { return path_ + "/log"; }
  std::string socket_path() const { return path_ + "/socket"; }
  // "PID START_TIME\n" of the rank, written by itself before it runs (common/subprocess.h).
  std::string process_path() const { return path_ + "/pid"; }

  // nullopt where the rank was never started.
  absl::StatusOr<std::optional<ProcessIdentity>> ReadProcess() const;

  // Until when, on the monotonic clock, the rank may run unless it hears of a later time.
  absl::Status WriteLease(int64_t until_monotonic_ms) const;

  // So that a worker that was restarted still knows how the rank ended.
  absl::Status WriteExit(const ProcessExit& exit) const;
  // nullopt where it is not known.
  absl::StatusOr<std::optional<ProcessExit>> ReadExit() const;

  // Writes the outbox of a rank that never ran: one report `failed`. `cause` is a name of
  // moe.v1.Cause. Does nothing where there are reports already.
  absl::Status WriteFailedReport(const std::string& cause, const std::string& error,
                                 int64_t unix_millis) const;

 private:
  std::string path_;
};

// The folder of one attempt.
class RunFolder {
 public:
  RunFolder(const std::string& root, const AttemptKey& key) : path_(root + "/" + key.Name()) {}

  const std::string& path() const { return path_; }
  RankFolder Rank(int rank) const { return RankFolder(path_ + "/rank-" + std::to_string(rank)); }

  // Makes the folder with one of each rank, then run.json. A folder without run.json is left from
  // an interrupted call: it is begun again.
  absl::Status Create(const std::string& run_spec_json, const std::vector<int>& ranks) const;
  bool Exists() const;
  // Numbers of the ranks that have a folder, ascending.
  absl::StatusOr<std::vector<int>> Ranks() const;
  // `lease_ttl_ms` of run.json.
  absl::StatusOr<int64_t> LeaseTtlMs() const;
  // run.json goes first, so that an interrupted removal leaves nothing that looks like an attempt.
  absl::Status Remove() const;

 private:
  std::string path_;
};

// Attempts with a folder in `root`; folders that are left from an interrupted Create or Remove are
// removed. Names that are not attempts are left alone.
absl::StatusOr<std::vector<AttemptKey>> ListRunFolders(const std::string& root);

}  // namespace moe::worker
