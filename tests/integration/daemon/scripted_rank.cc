// A rank that does what its run spec says, step by step: stands in for moe-rank and moe-prepare
// where the worker daemon is tested. The steps of spec.script:
//
//   {"report": 100}        that many progress reports
//   {"log": "text"}        a line on standard error
//   {"get": "key"}         waits for a rendezvous value; stops where it is told to
//   {"commit": "/path"}    reports an artefact and waits for the decision
//   {"hang": true}         never does anything again
//   {"exit": 3}            ends without a last report
//
// After the last step it reports `finished`.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "common/run_channel.h"
#include "common/status.h"

namespace moe {
namespace {

// Longer than any test.
constexpr int64_t kForeverMs = 600'000;

int ReportStopped(RunChannel& channel) {
  const char* cause = channel.stop_requested() == StopReason::kLeaseExpired ? "CAUSE_LEASE_EXPIRED"
                      : channel.stop_requested() == StopReason::kDrain      ? "CAUSE_DRAINED"
                                                                            : "CAUSE_CANCELLED";
  channel.Report("stopped", {{"cause", cause}});
  return 0;
}

int Run(RunChannel& channel) {
  channel.Report("started", {{"pid", ::getpid()}, {"device", "test"}});
  int64_t done = 0;
  for (const Json& step : channel.run_spec().at("spec").at("script")) {
    if (step.contains("report")) {
      for (int i = 0; i < step["report"]; ++i) channel.Report("progress", {{"done", ++done}});
    } else if (step.contains("log")) {
      std::fprintf(stderr, "%s\n", step["log"].get<std::string>().c_str());
    } else if (step.contains("get")) {
      if (!channel.Get(step["get"], kForeverMs).ok()) return ReportStopped(channel);
    } else if (step.contains("commit")) {
      channel.Report("artefact", {{"path", step["commit"]}});
      const absl::Status decision = channel.WaitForCommit(step["commit"]);
      if (absl::IsCancelled(decision)) return ReportStopped(channel);
      if (!decision.ok()) {
        channel.Report("failed", {{"cause", "CAUSE_STORAGE"}, {"error", Message(decision)}});
        return 1;
      }
    } else if (step.contains("hang")) {
      for (;;) ::pause();
    } else if (step.contains("exit")) {
      std::_Exit(step["exit"].get<int>());
    }
  }
  const char* threads = std::getenv("OMP_NUM_THREADS");
  channel.Report("finished", {{"summary", fmt::format("OMP_NUM_THREADS={}", threads)}});
  return 0;
}

}  // namespace
}  // namespace moe

// Called as moe-worker calls a rank: --run-dir DIR --rank N --threads N --host HOST --device cpu.
int main(int argc, char** argv) {
  if (argc < 7) return 2;
  const auto channel = moe::RunChannel::Open({.run_dir = argv[2], .rank = std::atoi(argv[4])});
  if (!channel.ok()) {
    std::fprintf(stderr, "%s\n", moe::Message(channel.status()).c_str());
    return 2;
  }
  return moe::Run(**channel);
}
