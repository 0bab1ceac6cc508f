#include "common/subprocess.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>

#include "common/file.h"
#include "common/status.h"

// glibc's clone by the name that the thread sanitizer leaves alone: its own takes the child for one
// made by fork, and no thread may then start in the parent whose memory it shares.
extern "C" int __clone(int (*run)(void*), void* stack, int flags, void* argument, ...);

namespace moe {
namespace {

constexpr size_t kStackBytes = size_t{64} << 10;

std::vector<char*> CStrings(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (const std::string& s : strings) result.push_back(const_cast<char*>(s.c_str()));
  result.push_back(nullptr);
  return result;
}

// In the memory that parent and child share until the child is the program.
struct Handover {
  char* const* argv = nullptr;
  char* const* environment = nullptr;
  int input = -1;
  int output = -1;
  std::string identity_path;
  std::string identity_temporary;

  ProcessIdentity identity;         // by the child
  const char* failed_at = nullptr;  // likewise, with
  int error = 0;                    // its errno
};

// What the child does runs in the parent's memory, beside the parent's other threads: system calls
// only, no allocation, no lock. False with errno set where it fails.
//
// The calls go past the C library and what sanitizers put before it: both remember handlers and
// open files in the memory that is the parent's too.

template <typename... Arguments>
int Call(int number, Arguments... arguments) {
  return static_cast<int>(::syscall(number, arguments...));
}

int OpenFile(const char* path, int flags) {
  return Call(SYS_openat, AT_FDCWD, path, flags | O_CLOEXEC, 0644);
}

bool Identify(ProcessIdentity* identity) {
  identity->pid = Call(SYS_getpid);
  const int fd = OpenFile("/proc/self/stat", O_RDONLY);
  if (fd < 0) return false;
  std::array<char, 1024> stat;
  const int n = Call(SYS_read, fd, stat.data(), stat.size() - 1);
  Call(SYS_close, fd);
  if (n <= 0) return false;
  stat[static_cast<size_t>(n)] = '\0';
  // As IdentifyProcess: field 2 ends at the last ')', and 22 is wanted.
  const char* at = std::strrchr(stat.data(), ')');
  for (int field = 2; at != nullptr && field < 22; ++field) at = std::strchr(at + 1, ' ');
  if (at == nullptr) {
    errno = EPROTO;
    return false;
  }
  for (++at; *at >= '0' && *at <= '9'; ++at) {
    identity->start_time = identity->start_time * 10 + static_cast<uint64_t>(*at - '0');
  }
  return true;
}

// Writes the number and `end` at `to`; returns where it ends.
char* PutNumber(uint64_t number, char end, char* to) {
  std::array<char, 20> digits;
  size_t count = 0;
  do {
    digits[count++] = static_cast<char>('0' + number % 10);
  } while ((number /= 10) > 0);
  while (count > 0) *to++ = digits[--count];
  *to++ = end;
  return to;
}

bool WriteIdentity(const Handover& handover) {
  if (handover.identity_path.empty()) return true;
  std::array<char, 48> text;
  char* end = PutNumber(static_cast<uint64_t>(handover.identity.pid), ' ', text.data());
  end = PutNumber(handover.identity.start_time, '\n', end);
  const auto size = static_cast<size_t>(end - text.data());
  const char* const temporary = handover.identity_temporary.c_str();
  const int fd = OpenFile(temporary, O_WRONLY | O_CREAT | O_TRUNC);
  if (fd < 0) return false;
  const int n = Call(SYS_write, fd, text.data(), size);
  Call(SYS_close, fd);
  if (n >= 0 && n != static_cast<int>(size)) errno = ENOSPC;
  return n == static_cast<int>(size) &&
         Call(SYS_rename, temporary, handover.identity_path.c_str()) == 0;
}

// The step that failed; does not return where none does.
const char* BecomeProgram(Handover* handover) {
  if (Call(SYS_setsid) < 0) return "cannot begin a session for";
  constexpr std::array<uint64_t, 4> kByDefault = {};  // struct sigaction: SIG_DFL, no flags
  constexpr uint64_t kNoSignal = 0;
  for (int signal = 1; signal < NSIG; ++signal) {
    Call(SYS_rt_sigaction, signal, kByDefault.data(), nullptr, sizeof(kNoSignal));
  }
  if (Call(SYS_rt_sigprocmask, SIG_SETMASK, &kNoSignal, nullptr, sizeof(kNoSignal)) != 0) {
    return "cannot unblock signals for";
  }
  if (Call(SYS_dup2, handover->input, 0) < 0 || Call(SYS_dup2, handover->output, 1) < 0 ||
      Call(SYS_dup2, handover->output, 2) < 0) {
    return "cannot pass on the standard streams of";
  }
  if (!Identify(&handover->identity)) return "cannot tell the start time of";
  if (!WriteIdentity(*handover)) return "cannot write down the process of";
  if (Call(SYS_close_range, 3U, ~0U, CLOSE_RANGE_CLOEXEC) != 0) return "cannot close the files of";
  Call(SYS_execve, handover->argv[0], handover->argv, handover->environment);
  return "cannot run";
}

int Child(void* argument) {
  auto* const handover = static_cast<Handover*>(argument);
  handover->failed_at = BecomeProgram(handover);
  handover->error = errno;
  Call(SYS_exit_group, 127);
  __builtin_unreachable();
}

// Returns the child's id once it runs the program, or has ended.
pid_t Clone(Handover* handover) {
  // Not zeroed: a page that is not touched costs nothing.
  const auto stack = std::make_unique_for_overwrite<char[]>(kStackBytes);
  // A handler of ours must not run in the child.
  sigset_t all, before;
  ::sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid =
      ::__clone(Child, stack.get() + kStackBytes, CLONE_VM | CLONE_VFORK | SIGCHLD, handover);
  const int error = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = error;
  return pid;
}

}  // namespace

absl::StatusOr<ProcessIdentity> StartDetached(const DetachedProgram& program) {
  const FileDescriptor input(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!input.valid()) return ErrnoStatus(errno, "cannot open /dev/null");
  const FileDescriptor output(
      ::open(program.output_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!output.valid()) return ErrnoStatus(errno, "cannot open " + program.output_path);
  const std::vector<char*> argv = CStrings(program.argv);
  const std::vector<char*> environment = CStrings(program.environment);
  Handover handover = {.argv = argv.data(),
                       .environment = environment.data(),
                       .input = input.get(),
                       .output = output.get(),
                       .identity_path = program.identity_path,
                       .identity_temporary = program.identity_path + ".new"};
  const pid_t pid = Clone(&handover);
  if (pid < 0) return ErrnoStatus(errno, "cannot make a process for " + program.argv[0]);
  if (handover.failed_at == nullptr) return handover.identity;
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
  const std::string where =
      program.identity_path.empty() ? "" : fmt::format(" ({})", program.identity_path);
  return ErrnoStatus(handover.error,
                     fmt::format("{} {}{}", handover.failed_at, program.argv[0], where));
}

}  // namespace moe
