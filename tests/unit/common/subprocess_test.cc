#include "common/subprocess.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "common/file.h"
#include "common/process_info.h"
#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe {
namespace {

using ::testing::HasSubstr;

class SubprocessTest : public ::testing::Test {
 protected:
  // Runs a shell script to its end and returns what it printed.
  std::string OutputOf(const std::string& script, std::vector<std::string> environment = {}) {
    const auto pid = StartDetached(Shell(script, std::move(environment)),
                                   [](pid_t) { return absl::OkStatus(); });
    EXPECT_TRUE(pid.ok()) << pid.status();
    int status = 0;
    EXPECT_EQ(::waitpid(*pid, &status, 0), *pid);
    EXPECT_EQ(status, 0);
    return *ReadFile(folder_.File("log"));
  }

  DetachedProgram Shell(const std::string& script, std::vector<std::string> environment = {}) {
    return {.argv = {"/bin/sh", "-c", script},
            .environment = std::move(environment),
            .output_path = folder_.File("log")};
  }

  TemporaryFolder folder_;
};

TEST_F(SubprocessTest, Program_GetsItsEnvironmentAndNothingElseOfOurs) {
  FileDescriptor ours(::open("/dev/null", O_RDONLY));  // without O_CLOEXEC
  ::setenv("MOE_TEST_SECRET", "secret", 1);
  const std::string output =
      OutputOf("env; echo; ls /proc/self/fd; echo to stderr >&2", {"PATH=/usr/bin:/bin", "A=1"});
  EXPECT_THAT(output, HasSubstr("A=1\n"));
  EXPECT_THAT(output, HasSubstr("to stderr\n"));
  EXPECT_THAT(output, ::testing::Not(HasSubstr("secret")));
  // 0 to 2 and the folder that ls itself reads.
  EXPECT_THAT(output, HasSubstr("\n0\n1\n2\n3\nto stderr"));
}

TEST_F(SubprocessTest, Program_LeadsItsOwnSession) {
  pid_t pid = 0;
  pid_t session = 0;
  const auto started = StartDetached(Shell("exec sleep 600"), [&](pid_t p) {
    pid = p;
    return absl::OkStatus();
  });
  ASSERT_TRUE(started.ok()) << started.status();
  session = ::getsid(*started);
  EXPECT_EQ(pid, *started);
  EXPECT_EQ(session, *started);
  ::kill(-*started, SIGKILL);
  int status = 0;
  ::waitpid(*started, &status, 0);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

TEST_F(SubprocessTest, BeforeExecFails_NothingRunsAndTheErrorIsReturned) {
  const auto started =
      StartDetached(Shell("echo it ran"), [](pid_t) { return ResourceExhausted("disk full"); });
  EXPECT_EQ(Message(started.status()), "disk full");
  EXPECT_EQ(*ReadFile(folder_.File("log")), "");
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
}

TEST_F(SubprocessTest, ParentDiesBeforeExec_NothingRuns) {
  const pid_t parent = ::fork();
  if (parent == 0) {
    (void)StartDetached(Shell("echo it ran"), [&](pid_t pid) {
      const auto identity = IdentifyProcess(pid);
      (void)WriteFileAtomically(folder_.File("child"),
                                fmt::format("{} {}", pid, identity->start_time));
      ::raise(SIGKILL);
      return absl::OkStatus();
    });
  }
  int status = 0;
  ASSERT_EQ(::waitpid(parent, &status, 0), parent);
  ASSERT_EQ(WTERMSIG(status), SIGKILL);
  const pid_t child = std::stoi(*ReadFile(folder_.File("child")));
  // Somebody else's child by now: its end can only be watched.
  const auto runs = [child] {
    const auto stat = ReadFile(fmt::format("/proc/{}/stat", child));
    return stat.ok() && stat->find(") Z ") == std::string::npos;
  };
  while (runs()) ::poll(nullptr, 0, 1);
  EXPECT_EQ(*ReadFile(folder_.File("log")), "");
}

TEST_F(SubprocessTest, ProgramThatIsNotThere_IsAnErrorNamingIt) {
  DetachedProgram program = Shell("");
  program.argv[0] = folder_.File("no-such-program");
  const auto started = StartDetached(program, [](pid_t) { return absl::OkStatus(); });
  EXPECT_TRUE(absl::IsNotFound(started.status()));
  EXPECT_THAT(Message(started.status()), HasSubstr("no-such-program"));
}

TEST_F(SubprocessTest, Signals_AreAsTheSystemHasThem) {
  std::signal(SIGPIPE, SIG_IGN);
  const std::string output =
      OutputOf("grep -E 'Sig(Blk|Ign)' /proc/self/status", {"PATH=/usr/bin:/bin"});
  EXPECT_EQ(output, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST(ProcessInfo, ThisProcess_IsItselfAndNoOther) {
  const auto self = IdentifyProcess(::getpid());
  ASSERT_TRUE(self.ok()) << self.status();
  EXPECT_EQ(*self, *IdentifyProcess(::getpid()));
  EXPECT_GT(self->start_time, IdentifyProcess(1)->start_time);
  EXPECT_TRUE(absl::IsNotFound(IdentifyProcess(1 << 30).status()));
}

}  // namespace
}  // namespace moe
