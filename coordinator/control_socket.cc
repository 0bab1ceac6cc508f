#include "coordinator/control_socket.h"

#include <poll.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "common/line_buffer.h"
#include "common/status.h"
#include "common/unix_socket.h"

namespace moe::coordinator {
namespace {

constexpr size_t kMaxLineBytes = size_t{64} << 10;
// Who connects and says nothing does not keep others out for longer.
constexpr int kRequestMillis = 2'000;
constexpr int kForever = -1;

absl::Status WaitFor(const FileDescriptor& fd, int16_t events, int timeout_ms) {
  pollfd waited = {fd.get(), events, 0};
  int ready = 0;
  do {
    ready = ::poll(&waited, 1, timeout_ms);
  } while (ready < 0 && errno == EINTR);
  if (ready < 0) return ErrnoStatus(errno, "cannot wait for the control socket");
  if (ready == 0) return DeadlineExceeded("nothing came in {} ms", timeout_ms);
  return absl::OkStatus();
}

absl::StatusOr<Json> ReadLine(const FileDescriptor& connection, int timeout_ms) {
  LineBuffer lines(kMaxLineBytes);
  std::string line;
  while (!lines.Next(&line)) {
    if (lines.overlong()) return InvalidArgument("a line of over {} bytes", kMaxLineBytes);
    MOE_RETURN_IF_ERROR(WaitFor(connection, POLLIN, timeout_ms));
    std::array<char, 4096> buffer;
    const ssize_t n = ::recv(connection.get(), buffer.data(), buffer.size(), 0);
    if (n < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (n < 0) return ErrnoStatus(errno, "cannot read from the control socket");
    if (n == 0) return Unavailable("the other side ended before its line was whole");
    lines.Append(buffer.data(), static_cast<size_t>(n));
  }
  return ParseJson(line, "the line of the control socket");
}

absl::Status WriteLine(const FileDescriptor& connection, const Json& json) {
  std::string line = json.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
  while (!line.empty()) {
    const ssize_t n = ::send(connection.get(), line.data(), line.size(), MSG_NOSIGNAL);
    if (n < 0 && errno == EAGAIN) {
      MOE_RETURN_IF_ERROR(WaitFor(connection, POLLOUT, kRequestMillis));
    } else if (n < 0 && errno != EINTR) {
      return ErrnoStatus(errno, "cannot write to the control socket");
    } else if (n > 0) {
      line.erase(0, static_cast<size_t>(n));
    }
  }
  return absl::OkStatus();
}

// The folder may be open to others; the socket is not, whatever its mode.
absl::Status CheckPeer(const FileDescriptor& connection) {
  ucred peer = {};
  socklen_t size = sizeof peer;
  if (::getsockopt(connection.get(), SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0) {
    return ErrnoStatus(errno, "cannot tell who is at the control socket");
  }
  if (peer.uid == ::geteuid() || peer.uid == 0) return absl::OkStatus();
  return PermissionDenied("user {} may not command the coordinator of user {}", peer.uid,
                          ::geteuid());
}

}  // namespace

std::string ControlSocketPath(const std::string& data_dir) { return JoinPath(data_dir, "control"); }

absl::StatusOr<std::unique_ptr<ControlSocket>> ControlSocket::Listen(const std::string& path,
                                                                     Handler handler) {
  FileDescriptor wake(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!wake.valid()) return ErrnoStatus(errno, "cannot make an eventfd");
  MOE_ASSIGN_OR_RETURN(FileDescriptor listener, ListenUnix(path));
  return std::unique_ptr<ControlSocket>(
      new ControlSocket(path, std::move(listener), std::move(wake), std::move(handler)));
}

ControlSocket::ControlSocket(std::string path, FileDescriptor listener, FileDescriptor wake,
                             Handler handler)
    : path_(std::move(path)),
      listener_(std::move(listener)),
      wake_(std::move(wake)),
      handler_(std::move(handler)),
      thread_([this] { Serve(); }) {}

ControlSocket::~ControlSocket() {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = ::write(wake_.get(), &one, sizeof one);
  thread_.join();
  ::unlink(path_.c_str());
}

void ControlSocket::Serve() {
  while (true) {
    std::array<pollfd, 2> fds = {pollfd{wake_.get(), POLLIN, 0},
                                 pollfd{listener_.get(), POLLIN, 0}};
    if (::poll(fds.data(), fds.size(), kForever) < 0) continue;  // EINTR
    if (fds[0].revents != 0) return;
    const FileDescriptor connection(
        ::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (connection.valid()) Answer(connection);
  }
}

void ControlSocket::Answer(const FileDescriptor& connection) const {
  const auto handle = [&]() -> absl::StatusOr<Json> {
    MOE_RETURN_IF_ERROR(CheckPeer(connection));
    MOE_ASSIGN_OR_RETURN(const Json request, ReadLine(connection, kRequestMillis));
    return handler_(request);
  };
  const absl::StatusOr<Json> answer = handle();
  const Json line = answer.ok() ? Json{{"answer", *answer}}
                                : Json{{"code", static_cast<int>(answer.status().code())},
                                       {"error", Message(answer.status())}};
  if (const absl::Status sent = WriteLine(connection, line); !sent.ok()) {
    spdlog::warn("{}: {}", path_, Message(sent));
  }
}

absl::StatusOr<Json> AskCoordinator(const std::string& data_dir, const Json& request) {
  const std::string path = ControlSocketPath(data_dir);
  const auto connection = ConnectUnix(path);
  if (!connection.ok()) {
    return Unavailable("no coordinator listens at {}: {}", path, Message(connection.status()));
  }
  MOE_RETURN_IF_ERROR(WriteLine(*connection, request));
  MOE_ASSIGN_OR_RETURN(const Json line, ReadLine(*connection, kForever));
  JsonReader reader(line, "the coordinator's answer");
  if (line.is_object() && line.contains("answer")) return line["answer"];
  const auto code = static_cast<absl::StatusCode>(reader.Int("code"));
  const std::string error = reader.String("error");
  MOE_RETURN_IF_ERROR(reader.status());
  return absl::Status(code, error);
}

}  // namespace moe::coordinator
