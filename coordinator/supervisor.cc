#include "coordinator/supervisor.h"

#include <algorithm>
#include <utility>

#include "common/status.h"
#include "coordinator/orphans.h"

namespace moe::coordinator {

Supervisor::Supervisor(Options options, Parts parts)
    : options_(std::move(options)),
      parts_(parts),
      attempts_(parts.store, parts.jobs, parts.workers),
      ledger_(parts.store, parts.jobs, parts.queue_tree),
      messages_(parts.jobs, parts.workers),
      outputs_({.jobs = parts.jobs,
                .catalog = parts.catalog,
                .attempts = &attempts_.all(),
                .files = parts.files,
                .file_work = parts.file_work,
                .observer = parts.observer}),
      ends_(options_, {.attempts = &attempts_,
                       .jobs = parts.jobs,
                       .catalog = parts.catalog,
                       .outputs = &outputs_,
                       .messages = &messages_,
                       .files = parts.files,
                       .file_work = parts.file_work,
                       .log_followers = &log_followers_,
                       .ledger = &ledger_,
                       .doorbell = &doorbell_}),
      wishes_(parts.jobs, &ends_, &doorbell_),
      view_(options_, {.attempts = &attempts_,
                       .jobs = parts.jobs,
                       .workers = parts.workers,
                       .queues = parts.queue_tree,
                       .ledger = &ledger_}),
      placement_(options_, {.attempts = &attempts_,
                            .ends = &ends_,
                            .jobs = parts.jobs,
                            .catalog = parts.catalog,
                            .sampler = parts.sampler,
                            .workers = parts.workers,
                            .messages = &messages_,
                            .observer = parts.observer,
                            .doorbell = &doorbell_,
                            .view = &view_,
                            .ledger = &ledger_}),
      outlook_(options_, {.view = &view_,
                          .attempts = &attempts_,
                          .jobs = parts.jobs,
                          .queues = parts.queue_tree,
                          .ledger = &ledger_,
                          .owed = &placement_.owed()}),
      limits_({.attempts = &attempts_, .ends = &ends_, .ledger = &ledger_}),
      arrays_({.jobs = parts.jobs,
               .workers = parts.workers,
               .file_work = parts.file_work,
               .queue = parts.queue,
               .doorbell = &doorbell_,
               .look_up = parts.look_up}),
      presence_(options_, {.store = parts.store,
                           .attempts = &attempts_,
                           .ends = &ends_,
                           .sampler = parts.sampler,
                           .workers = parts.workers,
                           .messages = &messages_,
                           .observer = parts.observer,
                           .doorbell = &doorbell_}),
      reports_({.store = parts.store,
                .attempts = &attempts_,
                .ends = &ends_,
                .jobs = parts.jobs,
                .sampler = parts.sampler,
                .outputs = &outputs_,
                .workers = parts.workers,
                .messages = &messages_,
                .files = parts.files,
                .file_work = parts.file_work,
                .queue = parts.queue,
                .log_followers = &log_followers_,
                .ledger = &ledger_,
                .observer = parts.observer}) {}

absl::Status Supervisor::Load(int64_t unix_millis, int64_t monotonic_millis) {
  MOE_RETURN_IF_ERROR(ledger_.Load(unix_millis, monotonic_millis));
  MOE_RETURN_IF_ERROR(attempts_.Load(monotonic_millis));
  for (const auto& [id, attempt] : attempts_.all()) {
    ledger_.Adopt(id, static_cast<int32_t>(attempt.ranks.size()), monotonic_millis);
  }
  return RemoveOrphans(options_.artefact_root, *parts_.jobs, attempts_.all(), *parts_.catalog,
                       parts_.files, parts_.file_work);
}

void Supervisor::BeforeCommit(Turn& turn) {
  presence_.LoseSilent(turn);
  const int64_t limits_millis = limits_.Enforce(turn);
  const int64_t placement_millis = placement_.Run(turn);
  arrays_.Run(turn);
  const int64_t ends_millis = ends_.Enforce(turn);
  next_deadline_millis_ =
      std::min({parts_.workers->NextExpiryMillis(), limits_millis, placement_millis, ends_millis});
}

}  // namespace moe::coordinator
