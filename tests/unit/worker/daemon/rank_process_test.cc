#include "worker/daemon/rank_process.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

namespace moe::worker {
namespace {

// A child that waits to be killed, in a process group of its own.
ProcessIdentity StartChild() {
  const pid_t pid = ::fork();
  if (pid == 0) {
    for (;;) ::pause();
  }
  ::setpgid(pid, pid);
  return *IdentifyProcess(pid);
}

void WaitForEnd(const RankProcess& process) {
  pollfd fd = {process.pidfd(), POLLIN, 0};
  ASSERT_EQ(::poll(&fd, 1, 20'000), 1);
}

TEST(RankProcess, Child_IsReapedWithItsSignal) {
  auto process = RankProcess::OfChild(StartChild());
  ASSERT_TRUE(process.ok()) << process.status();
  EXPECT_FALSE(process->TryReap().has_value());
  process->Kill();
  WaitForEnd(*process);
  EXPECT_EQ(*process->TryReap(), (ProcessExit{.exit_code = -1, .signal = SIGKILL}));
}

TEST(RankProcess, ChildThatLeavesAChild_TakesItAlong) {
  int alive[2];  // readable to the end once no process has the other side
  ASSERT_EQ(::pipe(alive), 0);
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::setpgid(0, 0);
    if (::fork() == 0) {
      for (;;) ::pause();
    }
    ::_exit(5);
  }
  ::close(alive[1]);
  auto process = RankProcess::OfChild(*IdentifyProcess(pid));
  WaitForEnd(*process);
  EXPECT_EQ(process->TryReap()->exit_code, 5);
  char byte;
  EXPECT_EQ(::read(alive[0], &byte, 1), 0);  // blocks for as long as the grandchild lives
  ::close(alive[0]);
}

TEST(RankProcess, Adopted_IsWatchedAndKilled) {
  const ProcessIdentity identity = StartChild();
  auto process = RankProcess::Adopt(identity);
  ASSERT_TRUE(process.ok()) << process.status();
  EXPECT_FALSE(process->TryReap().has_value());
  process->Kill();
  WaitForEnd(*process);
  EXPECT_EQ(*process->TryReap(), ProcessExit{});
  // Ended, and not yet waited for: it is gone all the same.
  EXPECT_TRUE(absl::IsNotFound(RankProcess::Adopt(identity).status()));
  ::waitpid(identity.pid, nullptr, 0);
  EXPECT_TRUE(absl::IsNotFound(RankProcess::Adopt(identity).status()));
}

TEST(RankProcess, ProcessWithAReusedId_IsNotAdopted) {
  ProcessIdentity identity = *IdentifyProcess(::getpid());
  --identity.start_time;
  EXPECT_TRUE(absl::IsNotFound(RankProcess::Adopt(identity).status()));
}

}  // namespace
}  // namespace moe::worker
