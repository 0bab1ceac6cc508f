// The program itself, as a shell starts it: Ctrl-C and completion.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/unit/moectl/fake_coordinator.h"

namespace moe::moectl {
namespace {

using testing::HasSubstr;

std::string Moectl() {
  const char* folder = std::getenv("MOE_BIN_DIR");
  return std::string(folder == nullptr ? "." : folder) + "/moectl";
}

// A child whose two output streams are one pipe.
class Child {
 public:
  explicit Child(std::vector<std::string> words) {
    std::array<int, 2> ends{};
    EXPECT_EQ(pipe(ends.data()), 0);
    pid_ = fork();
    if (pid_ == 0) {
      dup2(ends[1], STDOUT_FILENO);
      dup2(ends[1], STDERR_FILENO);
      close(ends[0]);
      close(ends[1]);
      std::vector<char*> argv;
      for (std::string& word : words) argv.push_back(word.data());
      argv.push_back(nullptr);
      execv(argv[0], argv.data());
      _exit(127);
    }
    close(ends[1]);
    output_ = fdopen(ends[0], "r");
  }
  ~Child() { fclose(output_); }

  // The next line, or what there is before the end.
  std::string ReadLine() {
    std::string line;
    for (int c = fgetc(output_); c != EOF; c = fgetc(output_)) {
      line += static_cast<char>(c);
      if (c == '\n') break;
    }
    return line;
  }
  void Signal(int number) { kill(pid_, number); }
  // Reads the rest, then the exit status as a shell shows it.
  int Wait(std::string* rest) {
    for (std::string line = ReadLine(); !line.empty(); line = ReadLine()) *rest += line;
    int status = 0;
    waitpid(pid_, &status, 0);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
  }

 private:
  pid_t pid_ = 0;
  FILE* output_ = nullptr;
};

TEST(ProcessTest, CtrlC_DuringWatch_LeavesTheJobAndSaysSo) {
  FakeCoordinator coordinator;
  const auto job = MakeJob("j1", "t", moe::v1::JOB_STATE_RUNNING, 2);
  coordinator.jobs.jobs = {job};
  coordinator.jobs.watches = {{.changes = {MakeChange(job, "up")}, .hang = true}};
  Child child({Moectl(), "--endpoint", coordinator.endpoint(), "job", "watch", "t"});
  EXPECT_THAT(child.ReadLine(), HasSubstr("j1 t RUNNING: up"));
  child.Signal(SIGINT);
  std::string rest;
  EXPECT_EQ(child.Wait(&rest), 130);
  EXPECT_THAT(rest, HasSubstr("the job goes on"));
  EXPECT_TRUE(coordinator.jobs.cancelled.empty());
}

TEST(ProcessTest, BashCompletion_SourcesAndCompletes) {
  const std::string script =
      "set -eu; source <('" + Moectl() +
      "' completion bash); "
      "complete_words() { COMP_WORDS=(\"$@\"); COMP_CWORD=$(($# - 1)); COMPREPLY=(); _moectl; "
      "echo \"${COMPREPLY[*]}\"; }; "
      "complete_words moectl jo; complete_words moectl job ca; "
      "complete_words moectl job list --output js; complete_words moectl job submit --dry";
  Child child({"/bin/bash", "-c", script});
  std::string output;
  EXPECT_EQ(child.Wait(&output), 0);
  EXPECT_EQ(output, "job\ncancel\njson\n--dry-run\n");
}

}  // namespace
}  // namespace moe::moectl
