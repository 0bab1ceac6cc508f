#include "common/net/endpoint.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <memory>

#include "common/file.h"
#include "common/status.h"

namespace moe {

std::string Endpoint::ToString() const {
  const bool is_v6 = host.find(':') != std::string::npos;
  return is_v6 ? fmt::format("[{}]:{}", host, port) : fmt::format("{}:{}", host, port);
}

absl::StatusOr<Endpoint> ParseEndpoint(const std::string& text) {
  const absl::Status expected = InvalidArgument(
      "'{}' is not an address; use HOST:PORT, as in 127.0.0.1:7070 or [::1]:7070", text);
  const size_t colon = text.rfind(':');
  if (colon == std::string::npos) return expected;
  Endpoint endpoint;
  endpoint.host = text.substr(0, colon);
  const std::string port = text.substr(colon + 1);
  const auto [rest, error] = std::from_chars(port.data(), port.data() + port.size(), endpoint.port);
  if (error != std::errc() || rest != port.data() + port.size()) return expected;
  if (endpoint.host.size() > 2 && endpoint.host.front() == '[' && endpoint.host.back() == ']') {
    endpoint.host = endpoint.host.substr(1, endpoint.host.size() - 2);
  }
  if (endpoint.host.empty()) return expected;
  return endpoint;
}

bool IsLoopback(const Endpoint& endpoint) {
  if (endpoint.host == "localhost") return true;
  in_addr v4;
  if (::inet_pton(AF_INET, endpoint.host.c_str(), &v4) == 1) {
    return (ntohl(v4.s_addr) >> 24) == 127;
  }
  in6_addr v6;
  if (::inet_pton(AF_INET6, endpoint.host.c_str(), &v6) == 1) return IN6_IS_ADDR_LOOPBACK(&v6);
  return false;
}

namespace {

using Addresses = std::unique_ptr<addrinfo, void (*)(addrinfo*)>;

absl::StatusOr<Addresses> Resolve(const Endpoint& endpoint) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_STREAM;
  hints.ai_flags = AI_PASSIVE;
  addrinfo* found = nullptr;
  const int error =
      ::getaddrinfo(endpoint.host.c_str(), std::to_string(endpoint.port).c_str(), &hints, &found);
  if (error != 0) return InvalidArgument("cannot resolve the host: {}", ::gai_strerror(error));
  return Addresses(found, ::freeaddrinfo);
}

}  // namespace

absl::Status CheckPortFree(const Endpoint& endpoint, const std::string& flag) {
  if (endpoint.port == 0) return absl::OkStatus();
  const auto addresses = Resolve(endpoint);
  if (!addresses.ok()) {
    return Annotate(addresses.status(), fmt::format("{} {}", flag, endpoint.ToString()));
  }
  const addrinfo& address = **addresses;
  const FileDescriptor socket(::socket(address.ai_family, address.ai_socktype | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return ErrnoStatus(errno, "cannot open a socket");
  const int yes = 1;
  (void)::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  if (::bind(socket.get(), address.ai_addr, address.ai_addrlen) == 0) return absl::OkStatus();
  if (errno == EADDRINUSE) {
    return FailedPrecondition(
        "{} {}: the port is in use; stop the program that listens there (ss -ltnp), or choose "
        "another port",
        flag, endpoint.ToString());
  }
  return ErrnoStatus(errno, fmt::format("{} {}: cannot listen there", flag, endpoint.ToString()));
}

absl::Status TryConnect(const Endpoint& endpoint) {
  MOE_ASSIGN_OR_RETURN(const Addresses addresses, Resolve(endpoint));
  const FileDescriptor socket(
      ::socket(addresses->ai_family, addresses->ai_socktype | SOCK_CLOEXEC, 0));
  if (!socket.valid()) return ErrnoStatus(errno, "cannot open a socket");
  if (::connect(socket.get(), addresses->ai_addr, addresses->ai_addrlen) == 0) {
    return absl::OkStatus();
  }
  return ErrnoStatus(errno, "cannot connect to " + endpoint.ToString());
}

}  // namespace moe
