#include "worker/daemon/rank_link.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "common/json.h"
#include "common/status.h"
#include "common/unix_socket.h"

namespace moe::worker {
namespace {

// A rank that reads nothing for this long a queue is disconnected; it hears all of it again later.
constexpr size_t kMaxOutgoingBytes = 4 * kMaxRunLineBytes;
// Ranks say every second what they are at.
constexpr int64_t kSilentMs = 3000;

std::string LeaseLine(int64_t until_ms) {
  return Json{{"type", "lease"}, {"until_monotonic_ms", until_ms}}.dump();
}
std::string StopLine(const std::string& reason) {
  return Json{{"type", "stop"}, {"reason", reason}}.dump();
}

}  // namespace

int16_t RankLink::poll_events() const {
  return static_cast<int16_t>(outgoing_.empty() ? POLLIN : POLLIN | POLLOUT);
}

void RankLink::TryConnect() {
  auto connection = ConnectUnix(socket_path_);
  if (!connection.ok()) {
    // Not there yet, not there any more, or busy: all of them end by themselves.
    spdlog::trace("{}", Message(connection.status()));
    return;
  }
  connection_ = *std::move(connection);
  incoming_ = LineBuffer(kMaxRunLineBytes);
  pulse_heard_ms_.reset();
  if (lease_until_ms_.has_value()) Queue(LeaseLine(*lease_until_ms_));
  for (const std::string& command : commands_) Queue(command);
  if (!stop_reason_.empty()) Queue(StopLine(stop_reason_));
}

void RankLink::HandleEvents(int64_t now_ms) {
  Flush();
  char buffer[1 << 14];
  while (connected()) {
    const ssize_t n = ::recv(connection_.get(), buffer, sizeof buffer, 0);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n <= 0) return Close();
    incoming_.Append(buffer, static_cast<size_t>(n));
    std::string line;
    while (incoming_.Next(&line)) HandleLine(line, now_ms);
    if (incoming_.overlong()) {
      spdlog::warn("{}: a line of over {} bytes; disconnected", socket_path_, kMaxRunLineBytes);
      return Close();
    }
  }
}

void RankLink::HandleLine(const std::string& line, int64_t now_ms) {
  spdlog::trace("{}: {}", socket_path_, line);
  const auto json = ParseJson(line, "the line");
  if (!json.ok()) {
    spdlog::warn("{}: ignored a line: {}", socket_path_, Message(json.status()));
    return;
  }
  JsonReader reader(*json, "the line");
  if (reader.String("type") != "pulse") return;
  Pulse pulse{.done = reader.Int("done"), .phase = reader.String("phase"), .since_ms = now_ms};
  if (!reader.status().ok()) {
    spdlog::warn("{}: ignored a pulse: {}", socket_path_, Message(reader.status()));
    return;
  }
  pulse_heard_ms_ = now_ms;
  const bool goes_on =
      pulse_.has_value() && pulse_->done == pulse.done && pulse_->phase == pulse.phase;
  if (goes_on && !pulse_->silent) return;
  if (goes_on) pulse.since_ms = pulse_->since_ms;
  pulse_ = std::move(pulse);
  pulse_is_new_ = true;
}

std::optional<RankLink::Pulse> RankLink::TakePulse(int64_t now_ms) {
  if (connected() && !pulse_heard_ms_.has_value()) pulse_heard_ms_ = now_ms;
  const bool silent = connected() && now_ms - *pulse_heard_ms_ >= kSilentMs;
  if (silent && !(pulse_.has_value() && pulse_->silent)) {
    if (!pulse_.has_value()) pulse_ = Pulse{.since_ms = now_ms};
    pulse_->silent = true;
    pulse_is_new_ = true;
  }
  return std::exchange(pulse_is_new_, false) ? pulse_ : std::nullopt;
}

void RankLink::Close() {
  connection_.Close();
  outgoing_.clear();
}

void RankLink::SetLease(int64_t until_monotonic_ms) {
  lease_until_ms_ = until_monotonic_ms;
  Queue(LeaseLine(until_monotonic_ms));
}

void RankLink::SetStop(const std::string& reason) {
  stop_reason_ = reason;
  Queue(StopLine(reason));
}

void RankLink::SendCommand(const std::string& json) {
  std::erase(commands_, json);
  commands_.push_back(json);
  Queue(json);
}

void RankLink::Queue(const std::string& line) {
  if (!connected()) return;
  outgoing_ += line;
  outgoing_ += '\n';
  Flush();
  if (outgoing_.size() > kMaxOutgoingBytes) {
    spdlog::warn("{}: the rank does not read; disconnected", socket_path_);
    Close();
  }
}

void RankLink::Flush() {
  while (connected() && !outgoing_.empty()) {
    const ssize_t n = ::send(connection_.get(), outgoing_.data(), outgoing_.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0 && errno == EAGAIN) return;
    if (n < 0) return Close();
    outgoing_.erase(0, static_cast<size_t>(n));
  }
}

}  // namespace moe::worker
