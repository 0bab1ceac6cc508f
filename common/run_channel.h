// A rank's side of the run folder (docs/formats/run-folder.md): its spec, its reports, its lease,
// its orders. Used by moe-rank and moe-prepare.
//
//   auto channel = RunChannel::Open({.run_dir = dir, .rank = 0});
//   (*channel)->Report("started", {{"pid", getpid()}, {"device", "cpu"}});
//   while (work && (*channel)->stop_requested() == StopReason::kNone) ...
//   (*channel)->Report("finished", {{"summary", "..."}});
//
// Thread-safe. One thread of its own serves the socket and watches the lease.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/json.h"

namespace moe {

// Limit on a report and on a line of the socket. A longer report ends the process.
inline constexpr size_t kMaxRunLineBytes = size_t{1} << 20;

// How long a rank's main loop has after its lease ran out.
inline constexpr int64_t kLeaseGraceMs = 5000;

// Exit status of a rank that was ended where it was, because its lease and the grace ran out.
inline constexpr int kLeaseExpiredExitCode = 70;
// Exit status of a rank that could not write its reports.
inline constexpr int kCannotReportExitCode = 74;

// In the order of their urgency: of two reasons the greater counts, for what a rank may no longer
// do, its attempt may no longer do.
enum class StopReason { kNone = 0, kDrain, kCancel, kLeaseExpired };

class RunChannel {
 public:
  struct Options {
    std::string run_dir;
    int rank = 0;
    // How long the main loop has, after the lease ran out, before the process is ended.
    int64_t lease_grace_ms = kLeaseGraceMs;
  };

  // Reads run.json, starts reports.jsonl and listens on the socket. The folder of a rank is used
  // once: FAILED_PRECONDITION where its reports.jsonl has something in it or another process holds
  // it. Ignores SIGPIPE in the whole process.
  static absl::StatusOr<std::unique_ptr<RunChannel>> Open(const Options& options);
  ~RunChannel();

  const Json& run_spec() const;
  int rank() const;

  // Appends {"seq", "unix_millis", event: body} to reports.jsonl and tells the worker, if one is
  // connected. Returns the seq. A write that fails (a full disk) ends the process: a rank that
  // cannot report is of no use, and the worker then reports it as died with the log as evidence.
  int64_t Report(const std::string& event, const Json& body);

  // Says how far the rank is and what it does now: "step", "checkpoint". Cheap: call it at every
  // change. The worker is told of the newest at most once a second; nothing of it is kept.
  void Pulse(int64_t done, const std::string& phase);

  // What the rank was told, or kLeaseExpired. Cheap: poll it between steps. Only ever gets more
  // urgent: kNone, kDrain, kCancel, kLeaseExpired.
  StopReason stop_requested() const;

  // Blocks until the coordinator decided on the artefact reported with this path, or a stop was
  // requested (CANCELLED). OK: committed. Else ABORTED with the coordinator's error.
  absl::Status WaitForCommit(const std::string& path);
  // The decision if there is one already: nullopt-like UNAVAILABLE while there is none.
  absl::Status CommitDecision(const std::string& path) const;

  // Blocks until the coordinator has sent the domain weights that follow from the losses after
  // `step`, or a stop was requested (CANCELLED). Returns the order "mixture".
  absl::StatusOr<Json> WaitForMixture(int64_t step);

  // Rendezvous among the ranks of the attempt, through the coordinator. Values are any bytes, at
  // most 64 KiB. A key is put once: a later value for it is dropped.
  void Put(const std::string& key, const std::string& value);
  // DEADLINE_EXCEEDED naming the key; CANCELLED when a stop was requested.
  absl::StatusOr<std::string> Get(const std::string& key, int64_t timeout_ms);

 private:
  class Impl;
  explicit RunChannel(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moe
