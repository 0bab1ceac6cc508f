// The coordinator as one object: for main, and for tests that run it in their own process.
//
//   MOE_ASSIGN_OR_RETURN(auto server, Server::Start({.data_dir = dir, .artefact_root = root}));
//   ... server->address() ...
//   server->Shutdown();
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/clock.h"
#include "coordinator/core.h"
#include "coordinator/retry_budget.h"

namespace moe::coordinator {

class Server {
 public:
  struct Options {
    std::string listen = "127.0.0.1:7070";          // port 0: any free one
    std::string metrics_listen = "127.0.0.1:7071";  // likewise; empty: none
    // Certificates (common/net/tls.h). Empty: no TLS and no tokens, and then on loopback only.
    std::string tls_dir;
    std::string data_dir;
    std::string artefact_root;
    int64_t lease_ttl_ms = 30000;
    int64_t lease_margin_ms = 6000;
    Backoff retry_backoff;
    int32_t stop_grace_ms = 10000;
    int32_t preempt_grace_ms = 300000;
    // Of each user, where there are users (with TLS).
    double user_calls_per_second = 100;  // 0: no limit
    double user_burst = 1000;
    // The folders that jobs may name paths in, beside the artefact root; empty: any path.
    std::vector<std::string> allow_roots;
    SchedulePolicy policy;
    // The queue file (docs/queues.md). Empty: one queue, which everybody shares.
    std::string queue_file = {};
    // Null: the machine's clock. Must outlive the server; used on the loop's thread only.
    const Clock* clock = nullptr;
    // Called when the store fails. Null: log and end the process, since nothing that this process
    // still says could be relied on.
    std::function<void(const absl::Status&)> on_fatal;
  };

  // Checks everything before it changes anything; when it returns OK the services answer. Errors
  // name the flag to change.
  static absl::StatusOr<std::unique_ptr<Server>> Start(Options options);
  // Shuts down.
  ~Server();

  // "127.0.0.1:7070", with the real port.
  const std::string& address() const;
  const std::string& metrics_url() const;  // empty where there is none

  // Reads the queue file again and takes its numbers (QueueTree::TakeNumbersOf), at the end of a
  // turn. What cannot be taken is said in the log, and changes nothing.
  void ReloadQueues();

  // Stops answering, finishes what has been accepted, closes the store. Idempotent.
  void Shutdown();

  // For tests: the parts. See Core for what may be touched where.
  const Core& core() const;

 private:
  class Impl;
  explicit Server(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace moe::coordinator
