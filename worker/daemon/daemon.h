// moe-worker as a library: one per node, in front of the ranks that run there.
#pragma once

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "worker/daemon/slots.h"

namespace moe::worker {

struct DaemonOptions {
  std::string coordinator = "127.0.0.1:7070";
  std::string tls_dir;    // certificates (common/net/tls.h); empty: no TLS
  std::string worker_id;  // unique among the workers of the coordinator
  std::string state_dir;
  std::string bin_dir;                            // of moe-rank and moe-prepare
  std::string metrics_listen = "127.0.0.1:7072";  // empty: no metrics endpoint
  // How the ranks of other workers reach those here: a name or an address of this host.
  std::string rank_host = "127.0.0.1";
  // Whether to measure once per state folder what a slot can do, and tell the coordinator.
  bool measure_speed = false;
  SlotOptions slots;
};

// Runs from Start until destroyed, which leaves the ranks running.
class Daemon {
 public:
  // INVALID_ARGUMENT for options that cannot work, FAILED_PRECONDITION where the state folder or
  // the metrics port is taken. Whether the coordinator can be reached does not matter.
  static absl::StatusOr<std::unique_ptr<Daemon>> Start(const DaemonOptions& options);
  ~Daemon();

 private:
  struct Parts;
  explicit Daemon(std::unique_ptr<Parts> parts);

  std::unique_ptr<Parts> parts_;
};

}  // namespace moe::worker
