#include "coordinator/worker_presence.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <set>
#include <utility>
#include <vector>

#include "common/net/protocol_version.h"
#include "common/status.h"

namespace moe::coordinator {
namespace {

absl::Status CheckRegister(const v1::Register& hello) {
  if (!ProtocolWith(hello).has_value()) {
    return FailedPrecondition(
        "worker '{}' speaks protocol {}, this coordinator {} to {}; install releases on both that "
        "are at most one version apart",
        hello.worker_id(), hello.protocol_version(), kProtocolVersions.oldest,
        kProtocolVersions.newest);
  }
  if (hello.worker_id().empty()) return InvalidArgument("register.worker_id is missing");
  if (hello.slots().empty()) {
    return InvalidArgument("worker '{}' registers no slots; it needs at least one",
                           hello.worker_id());
  }
  return absl::OkStatus();
}

// Whether the worker has told anything of the attempt.
bool HasReported(const Attempt& attempt, const std::string& worker_id) {
  return std::any_of(attempt.ranks.begin(), attempt.ranks.end(), [&](const AttemptRank& rank) {
    return rank.worker_id == worker_id && (rank.received_seq > 0 || rank.record.gone());
  });
}

}  // namespace

absl::Status WorkerPresence::OnRegister(Turn& turn, const v1::Register& hello,
                                        std::shared_ptr<WorkerSession> session) {
  MOE_RETURN_IF_ERROR(CheckRegister(hello));
  const std::string& worker_id = hello.worker_id();
  spdlog::info("worker={} host={} slots={} attempts={} registered", worker_id, hello.host(),
               hello.slots_size(), hello.attempts_size());
  parts_.workers->Register(turn, hello, std::move(session));
  parts_.doorbell->Ring();

  const std::set<AttemptId> named = Welcome(turn, hello);
  for (const AttemptId& id : parts_.attempts->IdsOn(worker_id)) {
    Attempt* attempt = parts_.attempts->Find(id);
    if (attempt == nullptr) continue;
    const bool may_not_know = !HasReported(*attempt, worker_id) && !attempt->record.ended() &&
                              attempt->stop_reason.empty();
    if (may_not_know) {
      parts_.messages->Start(turn, *attempt, worker_id);
    } else if (!named.contains(id)) {
      LoseAttemptOn(turn, *attempt, worker_id,
                    fmt::format("worker '{}' came back without it", worker_id));
      continue;
    }
    MOE_RETURN_IF_ERROR(Repeat(turn, *attempt, worker_id));
  }
  return absl::OkStatus();
}

std::set<AttemptId> WorkerPresence::Welcome(Turn& turn, const v1::Register& hello) {
  v1::SessionResponse message;
  v1::Registered& registered = *message.mutable_registered();
  const WorkerRegistry::Options& options = parts_.workers->options();
  registered.set_protocol_version(*ProtocolWith(hello));
  registered.set_lease_ttl_ms(static_cast<int32_t>(options.lease_ttl_ms));
  registered.set_heartbeat_interval_ms(static_cast<int32_t>(options.heartbeat_interval_ms));
  std::set<AttemptId> named;
  std::vector<v1::AttemptRef> over;
  for (const v1::AttemptRef& ref : hello.attempts()) {
    const Attempt* attempt =
        parts_.attempts->Find({ParseJobId(ref.job_id()).value_or(0), ref.attempt()});
    if (attempt == nullptr || !WorkersOf(*attempt).contains(hello.worker_id())) {
      over.push_back(ref);
      continue;
    }
    named.insert(attempt->id());
    for (size_t rank = 0; rank < attempt->ranks.size(); ++rank) {
      const AttemptRank& state = attempt->ranks[rank];
      if (state.worker_id != hello.worker_id()) continue;
      v1::AttemptCursor& cursor = *registered.add_cursors();
      *cursor.mutable_attempt() = ref;
      cursor.set_rank(static_cast<int32_t>(rank));
      cursor.set_report_seq(state.record.report_seq());
      cursor.set_log_offset(state.record.log_offset());
    }
  }
  parts_.workers->Send(turn, hello.worker_id(), std::move(message));
  for (const v1::AttemptRef& ref : over) parts_.messages->Forget(turn, ref, hello.worker_id());
  return named;
}

absl::Status WorkerPresence::Repeat(Turn& turn, Attempt& attempt, const std::string& worker_id) {
  for (size_t rank = 0; rank < attempt.ranks.size(); ++rank) {
    if (attempt.ranks[rank].worker_id != worker_id) continue;
    for (const v1::ArtefactDecision& decision : attempt.ranks[rank].record.decisions()) {
      parts_.messages->Decision(turn, attempt, static_cast<int32_t>(rank), decision);
    }
    const Journal& journal = parts_.sampler->JournalOf(attempt.job);
    if (rank == 0 && !journal.empty()) {
      parts_.messages->Mixture(turn, attempt, journal.back());
      parts_.observer->OnDecision(parts_.attempts->JobOf(attempt).job(), journal.back());
    }
  }
  MOE_ASSIGN_OR_RETURN(const auto values,
                       parts_.store->ListRendezvous(attempt.job, attempt.number));
  for (const auto& [key, value] : values) {
    parts_.messages->Rendezvous(turn, attempt, worker_id, key, value);
  }
  if (!attempt.stop_reason.empty()) {
    parts_.messages->Stop(turn, attempt, attempt.stop_reason, options_.stop_grace_ms);
  }
  return absl::OkStatus();
}

void WorkerPresence::OnHeartbeat(Turn& turn, const std::string& worker_id,
                                 const v1::Heartbeat& heartbeat) {
  if (parts_.workers->StateOf(worker_id, turn.monotonic_millis) != v1::WORKER_STATE_READY) {
    parts_.doorbell->Ring();
  }
  parts_.workers->Heartbeat(turn, worker_id);
  v1::SessionResponse message;
  message.mutable_heartbeat_ack()->set_seq(heartbeat.seq());
  parts_.workers->Send(turn, worker_id, std::move(message));
  for (const auto& [id, attempt] : parts_.attempts->all()) {
    if (attempt.record.ended() || !attempt.stop_reason.empty()) continue;
    const bool silent =
        std::any_of(attempt.ranks.begin(), attempt.ranks.end(), [&](const AttemptRank& rank) {
          return rank.worker_id == worker_id && rank.received_seq == 0 && !rank.settled();
        });
    if (silent) parts_.messages->Start(turn, attempt, worker_id);
  }
}

void WorkerPresence::LoseSilent(Turn& turn) {
  for (const std::string& worker_id : parts_.workers->TakeLost(turn.monotonic_millis)) {
    const WorkerRegistry::Options& options = parts_.workers->options();
    const std::string why =
        fmt::format("worker '{}' was not heard of for {:.1f} s", worker_id,
                    static_cast<double>(options.lease_ttl_ms + options.lease_margin_ms) / 1000.0);
    spdlog::warn("{}; its attempts end", why);
    for (const AttemptId& id : parts_.attempts->IdsOn(worker_id)) {
      LoseAttemptOn(turn, *parts_.attempts->Find(id), worker_id, why);
    }
    parts_.doorbell->Ring();
  }
}

void WorkerPresence::LoseAttemptOn(Turn& turn, Attempt& attempt, const std::string& worker_id,
                                   const std::string& why) {
  for (size_t rank = 0; rank < attempt.ranks.size(); ++rank) {
    AttemptRank& state = attempt.ranks[rank];
    if (state.worker_id != worker_id || state.record.gone()) continue;
    if (!state.settled() && !attempt.first_to_fail.has_value()) {
      attempt.first_to_fail = static_cast<int>(rank);
    }
    state.record.set_gone(true);
    state.record.set_lost(true);
    state.record.set_gone_message(why);
    parts_.attempts->SaveRank(turn, attempt, static_cast<int32_t>(rank));
  }
  parts_.ends->Settle(turn, attempt.id());
}

}  // namespace moe::coordinator
