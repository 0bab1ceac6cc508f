#include "worker/daemon/rank_process.h"

#include <poll.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>

#include "common/status.h"

extern "C" {  // glibc 2.36 forgot to say so itself
#include <sys/pidfd.h>
}

namespace moe::worker {

absl::StatusOr<RankProcess> RankProcess::OfChild(const ProcessIdentity& identity) {
  FileDescriptor pidfd(::pidfd_open(identity.pid, 0));
  if (!pidfd.valid()) {
    return ErrnoStatus(errno, fmt::format("cannot watch process {}", identity.pid));
  }
  return RankProcess(identity, std::move(pidfd), /*is_child=*/true);
}

absl::StatusOr<RankProcess> RankProcess::Adopt(const ProcessIdentity& identity) {
  FileDescriptor pidfd(::pidfd_open(identity.pid, 0));
  if (!pidfd.valid() && errno == ESRCH) return NotFound("process {} has ended", identity.pid);
  if (!pidfd.valid()) {
    return ErrnoStatus(errno, fmt::format("cannot watch process {}", identity.pid));
  }
  // Looked at after the descriptor was opened: from here on both mean the same process.
  MOE_ASSIGN_OR_RETURN(const ProcessIdentity found, IdentifyProcess(identity.pid));
  if (found != identity) {
    return NotFound("process {} has ended; its id belongs to another process now", identity.pid);
  }
  RankProcess process(identity, std::move(pidfd), /*is_child=*/false);
  if (process.HasEnded()) return NotFound("process {} has ended", identity.pid);
  return process;
}

bool RankProcess::HasEnded() const {
  pollfd fd = {pidfd_.get(), POLLIN, 0};
  return ::poll(&fd, 1, 0) == 1;
}

void RankProcess::Kill() const {
  if (HasEnded()) return;
  ::pidfd_send_signal(pidfd_.get(), SIGKILL, nullptr, 0);
  // The leader's id stays taken until it is waited for, which for a child is ours to do, so the
  // group is the right one. An adopted leader is waited for by init the moment it ends.
  if (is_child_) ::kill(-identity_.pid, SIGKILL);
}

std::optional<ProcessExit> RankProcess::TryReap() {
  if (!HasEnded()) return std::nullopt;
  if (!is_child_) return ProcessExit{};
  ::kill(-identity_.pid, SIGKILL);  // children that it left behind
  int status = 0;
  pid_t reaped = 0;
  do {
    reaped = ::waitpid(identity_.pid, &status, WNOHANG);
  } while (reaped < 0 && errno == EINTR);
  if (reaped == 0) return std::nullopt;
  if (reaped < 0) return ProcessExit{};
  if (WIFSIGNALED(status)) return ProcessExit{.exit_code = -1, .signal = WTERMSIG(status)};
  return ProcessExit{.exit_code = WEXITSTATUS(status), .signal = 0};
}

}  // namespace moe::worker
