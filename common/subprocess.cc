#include "common/subprocess.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>

#include "common/file.h"
#include "common/status.h"

namespace moe {
namespace {

struct Pipe {
  FileDescriptor read_end;
  FileDescriptor write_end;
};

absl::StatusOr<Pipe> MakePipe() {
  std::array<int, 2> fds;
  if (::pipe2(fds.data(), O_CLOEXEC) != 0) return ErrnoStatus(errno, "cannot make a pipe");
  return Pipe{FileDescriptor(fds[0]), FileDescriptor(fds[1])};
}

std::vector<char*> CStrings(const std::vector<std::string>& strings) {
  std::vector<char*> result;
  result.reserve(strings.size() + 1);
  for (const std::string& s : strings) result.push_back(const_cast<char*>(s.c_str()));
  result.push_back(nullptr);
  return result;
}

// What the child does between fork and exec: only calls that are safe in the child of a process
// with threads, and no allocation. Returns the errno of what failed.
int BecomeProgram(char* const* argv, char* const* environment, int input, int output, int gate) {
  if (::setsid() < 0) return errno;
  for (int signal = 1; signal < NSIG; ++signal) ::signal(signal, SIG_DFL);
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  char go = 0;
  ssize_t n = 0;
  do {
    n = ::read(gate, &go, 1);
  } while (n < 0 && errno == EINTR);
  if (n != 1) ::_exit(127);  // the parent died or gave up
  if (::dup2(input, 0) < 0 || ::dup2(output, 1) < 0 || ::dup2(output, 2) < 0) return errno;
  if (::close_range(3, ~0U, CLOSE_RANGE_CLOEXEC) != 0) return errno;
  ::execve(argv[0], argv, environment);
  return errno;
}

}  // namespace

absl::StatusOr<pid_t> StartDetached(const DetachedProgram& program,
                                    const std::function<absl::Status(pid_t)>& before_exec) {
  FileDescriptor input(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!input.valid()) return ErrnoStatus(errno, "cannot open /dev/null");
  FileDescriptor output(
      ::open(program.output_path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
  if (!output.valid()) return ErrnoStatus(errno, "cannot open " + program.output_path);
  MOE_ASSIGN_OR_RETURN(Pipe gate, MakePipe());
  MOE_ASSIGN_OR_RETURN(Pipe failure, MakePipe());
  const std::vector<char*> argv = CStrings(program.argv);
  const std::vector<char*> environment = CStrings(program.environment);

  const pid_t pid = ::fork();
  if (pid < 0) return ErrnoStatus(errno, "cannot fork");
  if (pid == 0) {
    // Without this the child would keep its own gate open and never see the parent's death.
    ::close(gate.write_end.get());
    const int error = BecomeProgram(argv.data(), environment.data(), input.get(), output.get(),
                                    gate.read_end.get());
    [[maybe_unused]] const ssize_t n = ::write(failure.write_end.get(), &error, sizeof error);
    ::_exit(127);
  }

  failure.write_end.Close();
  absl::Status status = before_exec(pid);
  if (status.ok()) status = WriteAll(gate.write_end.get(), "g", 1, "the start gate");
  gate.write_end.Close();
  // Closed by a successful exec, else it brings the errno.
  int error = 0;
  ssize_t n = 0;
  do {
    n = ::read(failure.read_end.get(), &error, sizeof error);
  } while (n < 0 && errno == EINTR);
  if (status.ok() && n == sizeof error) {
    status = ErrnoStatus(error, "cannot run " + program.argv[0]);
  }
  if (!status.ok()) {
    while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
    }
    return status;
  }
  return pid;
}

}  // namespace moe
