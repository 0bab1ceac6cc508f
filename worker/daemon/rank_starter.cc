#include "worker/daemon/rank_starter.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "common/status.h"
#include "common/subprocess.h"
#include "worker/daemon/rank_environment.h"
#include "worker/daemon/slots.h"

namespace moe::worker {

void RankStarter::Start(const Attempt& attempt, Rank& rank, int slot, const std::string& kind,
                        int64_t lease_until_ms) const {
  rank.slot = slot;
  const absl::Status status = TryStart(attempt, rank, kind, lease_until_ms);
  if (status.ok()) {
    spdlog::info("attempt={} rank={} kind={} slot={} started pid={}", attempt.key.Name(),
                 rank.number, kind, slot, rank.process->identity().pid);
    options_.metrics->rank_starts.Increment();
    return;
  }
  rank.ended_ms = options_.clock->MonotonicMillis();
  options_.metrics->rank_start_failures.Increment();
  spdlog::error("attempt={} rank={} not started: {}", attempt.key.Name(), rank.number,
                Message(status));
  const absl::Status told = rank.folder.WriteFailedReport(
      absl::IsResourceExhausted(status) ? "CAUSE_STORAGE" : "CAUSE_INTERNAL",
      "the worker could not start the rank: " + Message(status), options_.clock->UnixMillis());
  if (!told.ok()) spdlog::error("attempt={}: {}", attempt.key.Name(), Message(told));
}

absl::Status RankStarter::TryStart(const Attempt& attempt, Rank& rank, const std::string& kind,
                                   int64_t lease_until_ms) const {
  const v1::Slot* slot = FindSlot(rank.slot);
  if (slot == nullptr) {
    return InvalidArgument("slot {} does not exist here; this worker has {}", rank.slot,
                           options_.slots.size());
  }
  const std::string threads = std::to_string(slot->threads());
  DetachedProgram program = {
      .argv = {options_.bin_dir + (kind == "prepare" ? "/moe-prepare" : "/moe-rank"), "--run-dir",
               attempt.folder.path(), "--rank", std::to_string(rank.number), "--threads", threads},
      .environment = RankEnvironment(slot->threads()),
      .output_path = rank.folder.log_path(),
      .identity_path = rank.folder.process_path()};
  if (kind != "prepare") {
    program.argv.insert(program.argv.end(),
                        {"--host", options_.rank_host, "--device", DeviceArgument(*slot)});
  }
  MOE_RETURN_IF_ERROR(rank.folder.WriteLease(lease_until_ms));
  MOE_ASSIGN_OR_RETURN(const ProcessIdentity identity, StartDetached(program));
  MOE_ASSIGN_OR_RETURN(rank.process, RankProcess::OfChild(identity));
  return absl::OkStatus();
}

const v1::Slot* RankStarter::FindSlot(int index) const {
  for (const v1::Slot& slot : options_.slots) {
    if (slot.index() == index) return &slot;
  }
  return nullptr;
}

}  // namespace moe::worker
