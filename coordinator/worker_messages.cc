#include "coordinator/worker_messages.h"

#include <set>
#include <utility>

#include "common/json.h"
#include "coordinator/base64.h"
#include "coordinator/job_spec.h"
#include "coordinator/run_spec.h"

namespace moe::coordinator {

void WorkerMessages::Start(Turn& turn, const Attempt& attempt, const std::string& worker_id) {
  v1::SessionResponse message;
  v1::StartAttempt& start = *message.mutable_start();
  *start.mutable_attempt() = RefOf(attempt.id());
  start.set_run_spec_json(attempt.record.run_spec_json());
  start.set_kind(KindName(jobs_->Find(attempt.job)->job().spec()));
  for (size_t rank = 0; rank < attempt.ranks.size(); ++rank) {
    if (attempt.ranks[rank].worker_id != worker_id) continue;
    v1::RankPlacement& placement = *start.add_ranks();
    placement.set_rank(static_cast<int32_t>(rank));
    placement.set_slot(attempt.ranks[rank].slot);
  }
  workers_->Send(turn, worker_id, std::move(message));
}

void WorkerMessages::Forget(Turn& turn, const v1::AttemptRef& ref, const std::string& worker_id) {
  v1::SessionResponse message;
  *message.mutable_forget()->mutable_attempt() = ref;
  workers_->Send(turn, worker_id, std::move(message));
}

void WorkerMessages::Command(Turn& turn, const Attempt& attempt, int32_t rank,
                             const std::string& worker_id, const std::string& json) {
  v1::SessionResponse message;
  v1::RankCommand& command = *message.mutable_command();
  *command.mutable_attempt() = RefOf(attempt.id());
  command.set_rank(rank);
  command.set_json(json);
  workers_->Send(turn, worker_id, std::move(message));
}

void WorkerMessages::Decision(Turn& turn, const Attempt& attempt, int32_t rank,
                              const v1::ArtefactDecision& decision) {
  const Json json = {{"type", "artefact"},
                     {"path", decision.path()},
                     {"committed", decision.committed()},
                     {"error", decision.error()}};
  Command(turn, attempt, rank, attempt.ranks[static_cast<size_t>(rank)].worker_id,
          json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void WorkerMessages::Mixture(Turn& turn, const Attempt& attempt,
                             const v1::SamplerDecision& decision) {
  Json json = DecisionJson(decision);
  json["type"] = "mixture";
  Command(turn, attempt, 0, attempt.ranks.front().worker_id, json.dump());
}

void WorkerMessages::Rendezvous(Turn& turn, const Attempt& attempt, const std::string& worker_id,
                                const std::string& key, const std::string& value) {
  const Json json = {{"type", "rendezvous"}, {"key", key}, {"value", EncodeBase64(value)}};
  Command(turn, attempt, -1, worker_id, json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

void WorkerMessages::Acknowledge(Turn& turn, Attempt& attempt, int32_t rank) {
  AttemptRank& state = attempt.ranks[static_cast<size_t>(rank)];
  if (state.told_seq == state.record.report_seq()) return;
  state.told_seq = state.record.report_seq();
  v1::SessionResponse message;
  v1::ReportAck& ack = *message.mutable_report_ack();
  *ack.mutable_attempt() = RefOf(attempt.id());
  ack.set_rank(rank);
  ack.set_seq(state.record.report_seq());
  workers_->Send(turn, state.worker_id, std::move(message));
}

void WorkerMessages::Stop(Turn& turn, Attempt& attempt, const std::string& reason,
                          int32_t grace_ms) {
  attempt.stop_reason = reason;
  std::set<std::string> workers;
  for (const AttemptRank& rank : attempt.ranks) {
    if (!rank.record.gone()) workers.insert(rank.worker_id);
  }
  for (const std::string& worker : workers) {
    v1::SessionResponse message;
    v1::StopAttempt& stop = *message.mutable_stop();
    *stop.mutable_attempt() = RefOf(attempt.id());
    stop.set_reason(reason);
    stop.set_grace_ms(grace_ms);
    workers_->Send(turn, worker, std::move(message));
  }
}

}  // namespace moe::coordinator
