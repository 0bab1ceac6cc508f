#include "coordinator/attempt_outcome.h"

#include <cstring>
#include <optional>

#include "common/status.h"
#include "coordinator/job_state.h"

namespace moe::coordinator {
namespace {

Failure FailureOf(const Attempt& attempt, int32_t rank) {
  const v1::RankRecord& record = attempt.ranks[static_cast<size_t>(rank)].record;
  if (record.has_failed()) {
    const v1::Cause cause = record.failed().cause();
    return {cause == v1::CAUSE_UNSPECIFIED ? v1::CAUSE_INTERNAL : cause,
            fmt::format("rank {}: {}", rank, record.failed().error())};
  }
  if (record.has_stopped()) {
    // A rank that stops on its own wish, or because its worker alone wanted it, has died for us.
    const v1::Cause cause = record.stopped().cause();
    const bool known = cause == v1::CAUSE_DRAINED || cause == v1::CAUSE_LEASE_EXPIRED;
    return {known ? cause : v1::CAUSE_RANK_DIED,
            fmt::format("rank {} stopped: {}", rank, CauseText(cause))};
  }
  if (record.lost()) return {v1::CAUSE_WORKER_LOST, record.gone_message()};
  return {v1::CAUSE_RANK_DIED, record.gone_message()};
}

// Whose failure explains that of the others.
int Weight(v1::Cause cause) {
  if (IsOwnFault(cause)) return 2;
  return cause == v1::CAUSE_DAMAGED_CHECKPOINT ? 1 : 0;
}

}  // namespace

std::string ExitText(int32_t rank, const v1::RankExited& exited) {
  if (exited.signal() != 0) {
    return fmt::format("rank {} was ended by signal {} ({})", rank, exited.signal(),
                       ::strsignal(exited.signal()));
  }
  if (exited.exit_code() < 0) return fmt::format("rank {} is gone, it is not known how", rank);
  return fmt::format("rank {} ended with exit status {} and no report", rank, exited.exit_code());
}

Failure WorstFailure(const Attempt& attempt) {
  // A rank's failure makes its peers fail in other ways. What is the job's own fault wins, then a
  // checkpoint that one of them could not read, then the first.
  std::optional<Failure> worst;
  if (attempt.first_to_fail.has_value()) worst = FailureOf(attempt, *attempt.first_to_fail);
  for (int32_t rank = 0; rank < static_cast<int32_t>(attempt.ranks.size()); ++rank) {
    if (attempt.ranks[static_cast<size_t>(rank)].record.has_finished()) continue;
    const Failure failure = FailureOf(attempt, rank);
    if (!worst.has_value() || Weight(failure.cause) > Weight(worst->cause)) {
      worst = failure;
    }
  }
  return worst.value_or(Failure{v1::CAUSE_INTERNAL, "all ranks finished"});
}

}  // namespace moe::coordinator
