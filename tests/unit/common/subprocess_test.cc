#include "common/subprocess.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/file.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <thread>
#include <vector>

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
    const auto started = StartDetached(Shell(script, std::move(environment)));
    EXPECT_TRUE(started.ok()) << started.status();
    int status = 0;
    EXPECT_EQ(::waitpid(started->pid, &status, 0), started->pid);
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
  const auto started = StartDetached(Shell("exec sleep 600"));
  ASSERT_TRUE(started.ok()) << started.status();
  EXPECT_EQ(::getsid(started->pid), started->pid);
  ::kill(-started->pid, SIGKILL);
  int status = 0;
  ::waitpid(started->pid, &status, 0);
  EXPECT_EQ(WTERMSIG(status), SIGKILL);
}

TEST_F(SubprocessTest, Identity_IsThatOfTheProgramAndWrittenBeforeItRuns) {
  DetachedProgram program = Shell("read pid start < " + folder_.File("identity") +
                                  " && test $$ = $pid && exec sleep 600");
  program.identity_path = folder_.File("identity");
  const auto started = StartDetached(program);
  ASSERT_TRUE(started.ok()) << started.status();
  EXPECT_EQ(*started, *IdentifyProcess(started->pid));
  EXPECT_EQ(*ReadFile(folder_.File("identity")),
            fmt::format("{} {}\n", started->pid, started->start_time));
  ::kill(started->pid, SIGKILL);
  int status = 0;
  ::waitpid(started->pid, &status, 0);
  EXPECT_EQ(WTERMSIG(status), SIGKILL) << "the program did not find its own identity";
}

TEST_F(SubprocessTest, IdentityThatCannotBeWritten_NothingRunsAndTheErrorNamesIt) {
  DetachedProgram program = Shell("echo it ran");
  program.identity_path = folder_.File("no-such-folder/identity");
  const auto started = StartDetached(program);
  EXPECT_TRUE(absl::IsNotFound(started.status())) << started.status();
  EXPECT_THAT(Message(started.status()), HasSubstr("no-such-folder/identity"));
  EXPECT_EQ(*ReadFile(folder_.File("log")), "");
  EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child is left";
}

// A parent that is killed at any moment leaves no program that is not known, and its locks are not
// free before that is certain.
TEST_F(SubprocessTest, ParentDiesAtAnyMoment_WhatRanIsKnown) {
  const std::string ran = folder_.File("ran"), identity = folder_.File("identity");
  int known = 0;
  for (int delay_us = 0; delay_us < 3000; delay_us += 60) {
    const FileDescriptor lock(
        ::open(folder_.File("lock").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
    const pid_t parent = ::fork();
    if (parent == 0) {
      ::setpgid(0, 0);
      const FileDescriptor held(::open(folder_.File("lock").c_str(), O_RDWR | O_CLOEXEC));
      ::flock(held.get(), LOCK_EX);
      DetachedProgram program = Shell("echo > " + ran);
      program.identity_path = identity;
      (void)StartDetached(program);
      ::pause();
    }
    ::usleep(static_cast<useconds_t>(delay_us));
    ::kill(parent, SIGKILL);
    ASSERT_EQ(::waitpid(parent, nullptr, 0), parent);
    ASSERT_EQ(::flock(lock.get(), LOCK_EX), 0);  // as the next daemon does
    const auto written = ReadFile(identity);
    if (written.ok()) {
      ++known;
      const pid_t pid = std::stoi(*written);
      while (::kill(pid, 0) == 0) {
        const auto stat = ReadFile(fmt::format("/proc/{}/stat", pid));
        if (!stat.ok() || stat->find(") Z ") != std::string::npos) break;
        ::poll(nullptr, 0, 1);
      }
    } else {
      EXPECT_FALSE(FileExists(ran))
          << "ran without being known, killed after " << delay_us << " us";
    }
    ::unlink(identity.c_str());
    ::unlink(ran.c_str());
  }
  EXPECT_GT(known, 0) << "every parent was killed too early to show anything";
}

TEST_F(SubprocessTest, StartedFromMany_EachIsItsOwn) {
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const std::string log = folder_.File("log" + std::to_string(t));
      const auto started = StartDetached(
          {.argv = {"/bin/sh", "-c", "echo $$"}, .environment = {}, .output_path = log});
      ASSERT_TRUE(started.ok()) << started.status();
      int status = 0;
      ASSERT_EQ(::waitpid(started->pid, &status, 0), started->pid);
      EXPECT_EQ(*ReadFile(log), std::to_string(started->pid) + "\n");
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_F(SubprocessTest, ProgramThatIsNotThere_IsAnErrorNamingIt) {
  DetachedProgram program = Shell("");
  program.argv[0] = folder_.File("no-such-program");
  const auto started = StartDetached(program);
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
