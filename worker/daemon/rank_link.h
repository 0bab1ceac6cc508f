// The connection to a rank's Unix socket (docs/formats/run-folder.md, "Socket"). Keeps what the
// rank must know, and tells it all of it again on every new connection.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "common/file.h"
#include "common/line_buffer.h"
#include "common/run_channel.h"

namespace moe::worker {

// Not thread-safe. Never blocks.
class RankLink {
 public:
  explicit RankLink(std::string socket_path) : socket_path_(std::move(socket_path)) {}

  bool connected() const { return connection_.valid(); }
  // For poll; -1 while not connected.
  int fd() const { return connection_.get(); }
  int16_t poll_events() const;

  // Nothing happens where the rank does not listen yet: try again later.
  void TryConnect();
  // Reads and writes what can be without blocking, after poll. But for its pulse the lines of a
  // rank carry nothing that is not in its files: that one came is reason to read those.
  void HandleEvents(int64_t now_ms);
  // How far the rank is and what it does.
  struct Pulse {
    int64_t done = 0;
    std::string phase;
    int64_t since_ms = 0;
    bool silent = false;  // it should have said so again, and has not: its process does not run
  };
  // The newest, where anything of it has changed since it was last taken.
  std::optional<Pulse> TakePulse(int64_t now_ms);
  // Whoever took it has lost it.
  void RepeatPulse() { pulse_is_new_ = pulse_.has_value(); }
  void Close();

  // Each of these reaches the rank now or as soon as it is connected.
  void SetLease(int64_t until_monotonic_ms);
  void SetStop(const std::string& reason);
  // Any line; one that was sent before is sent again, as the newest.
  void SendCommand(const std::string& json);

 private:
  void HandleLine(const std::string& line, int64_t now_ms);
  void Queue(const std::string& line);
  void Flush();

  const std::string socket_path_;
  FileDescriptor connection_;
  LineBuffer incoming_{kMaxRunLineBytes};
  std::string outgoing_;
  std::optional<Pulse> pulse_;
  std::optional<int64_t> pulse_heard_ms_;  // on this connection
  bool pulse_is_new_ = false;
  std::optional<int64_t> lease_until_ms_;
  std::string stop_reason_;            // empty: none
  std::vector<std::string> commands_;  // in order, each once
};

}  // namespace moe::worker
