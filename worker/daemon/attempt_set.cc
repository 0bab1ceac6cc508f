#include "worker/daemon/attempt_set.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "common/status.h"

namespace moe::worker {

absl::Status AttemptSet::TakeOver(int64_t* lease_until_ms) {
  MOE_ASSIGN_OR_RETURN(const std::vector<AttemptKey> keys, ListRunFolders(runs_path_));
  for (const AttemptKey& key : keys) {
    Attempt& attempt = attempts_.try_emplace(key, key, RunFolder(runs_path_, key)).first->second;
    const absl::StatusOr<bool> started = TakeOverAttempt(attempt, lease_until_ms);
    if (started.ok() && *started) continue;
    if (started.ok()) {
      // As if the order had never come: the coordinator repeats it.
      spdlog::info("attempt={} was not started; its folder is removed", key.Name());
    } else if (absl::IsDataLoss(started.status()) || absl::IsInvalidArgument(started.status())) {
      // Folders are not synced: the machine lost power, and no rank survived that. Where something
      // else did the damage, nothing of the attempt must run on unseen.
      spdlog::warn("attempt={} is given up: {}", key.Name(), Message(started.status()));
      for (auto& [number, rank] : attempt.ranks) rank.Kill();
    } else {
      return Annotate(started.status(), "cannot take over the run " + key.Name());
    }
    MOE_RETURN_IF_ERROR(attempt.folder.Remove());
    attempts_.erase(key);
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> AttemptSet::TakeOverAttempt(Attempt& attempt, int64_t* lease_until_ms) {
  const RunFolder& folder = attempt.folder;
  MOE_ASSIGN_OR_RETURN(const std::vector<int> numbers, folder.Ranks());
  int started = 0, running = 0;
  for (const int number : numbers) {
    Rank& rank = attempt.ranks.try_emplace(number, number, folder.Rank(number)).first->second;
    rank.ended_ms = clock_->MonotonicMillis();
    MOE_ASSIGN_OR_RETURN(const auto identity, rank.folder.ReadProcess());
    if (!identity.has_value()) continue;
    ++started;
    MOE_ASSIGN_OR_RETURN(const auto exit, rank.folder.ReadExit());
    if (exit.has_value()) {
      rank.exit = *exit;
      continue;
    }
    auto process = RankProcess::Adopt(*identity);
    if (absl::IsNotFound(process.status())) continue;
    MOE_RETURN_IF_ERROR(process.status());
    rank.process = *std::move(process);
    ++running;
  }
  if (started == 0) return false;
  for (auto& [number, rank] : attempt.ranks) {
    MOE_ASSIGN_OR_RETURN(const auto identity, rank.folder.ReadProcess());
    if (identity.has_value()) continue;
    MOE_RETURN_IF_ERROR(rank.folder.WriteFailedReport(
        "CAUSE_WORKER_LOST", "the worker was stopped before it had started this rank",
        clock_->UnixMillis()));
  }
  MOE_ASSIGN_OR_RETURN(const int64_t lease_ttl_ms, folder.LeaseTtlMs());
  *lease_until_ms = std::max(*lease_until_ms, clock_->MonotonicMillis() + lease_ttl_ms);
  spdlog::info("attempt={} taken over ranks={} running={}", attempt.key.Name(), numbers.size(),
               running);
  return true;
}

absl::StatusOr<Attempt*> AttemptSet::Create(const v1::StartAttempt& order) {
  MOE_ASSIGN_OR_RETURN(
      const AttemptKey key,
      AttemptKey::Parse(fmt::format("{}.{}", order.attempt().job_id(), order.attempt().attempt())));
  const RunFolder folder(runs_path_, key);
  std::vector<int> numbers;
  for (const v1::RankPlacement& placement : order.ranks()) numbers.push_back(placement.rank());
  MOE_RETURN_IF_ERROR(folder.Create(order.run_spec_json(), numbers));
  Attempt& attempt = attempts_.try_emplace(key, key, folder).first->second;
  for (const int number : numbers) {
    attempt.ranks.try_emplace(number, number, folder.Rank(number));
  }
  return &attempt;
}

void AttemptSet::RemoveForgotten() {
  std::erase_if(attempts_, [](const auto& entry) {
    const Attempt& attempt = entry.second;
    if (!attempt.forgotten) return false;
    for (const auto& [number, rank] : attempt.ranks) {
      if (rank.running()) return false;
    }
    const absl::Status status = attempt.folder.Remove();
    if (!status.ok()) {
      // Kept, and tried again at the next tick and by the next daemon.
      spdlog::warn("attempt={}: {}", attempt.key.Name(), Message(status));
      return false;
    }
    spdlog::info("attempt={} forgotten", attempt.key.Name());
    return true;
  });
}

Attempt* AttemptSet::Find(const v1::AttemptRef& ref) {
  const auto it = attempts_.find(AttemptKey{.job_id = ref.job_id(), .attempt = ref.attempt()});
  return it == attempts_.end() ? nullptr : &it->second;
}

Rank* AttemptSet::FindRank(const v1::AttemptRef& ref, int number) {
  Attempt* attempt = Find(ref);
  if (attempt == nullptr) return nullptr;
  const auto it = attempt->ranks.find(number);
  return it == attempt->ranks.end() ? nullptr : &it->second;
}

void AttemptSet::ForEachRank(const std::function<void(Attempt&, Rank&)>& visit) {
  for (auto& [key, attempt] : attempts_) {
    for (auto& [number, rank] : attempt.ranks) visit(attempt, rank);
  }
}

std::vector<AttemptKey> AttemptSet::Keys() const {
  std::vector<AttemptKey> keys;
  for (const auto& [key, attempt] : attempts_) keys.push_back(key);
  return keys;
}

}  // namespace moe::worker
