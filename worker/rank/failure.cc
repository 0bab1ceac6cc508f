#include "worker/rank/failure.h"

#include <c10/util/Exception.h>
#include <spdlog/spdlog.h>

#include <cstdlib>
#include <exception>
#include <new>
#include <stdexcept>
#include <variant>

#include "common/check.h"
#include "common/status.h"
#include "worker/parallel/communicator.h"
#include "worker/training/trainer.h"

namespace moe::rank {
namespace {

// ATen's CPU allocator throws a plain c10::Error.
bool IsOutOfMemory(const std::string& message) {
  return message.find("can't allocate memory") != std::string::npos ||
         message.find("out of memory") != std::string::npos;
}

const char* StopCause(StopReason reason) {
  switch (reason) {
    case StopReason::kCancel:
      return "CAUSE_CANCELLED";
    case StopReason::kDrain:
      return "CAUSE_DRAINED";
    case StopReason::kLeaseExpired:
      return "CAUSE_LEASE_EXPIRED";
    case StopReason::kNone:
      break;
  }
  MOE_CHECK(!"no cause for a job that was not stopped");
  __builtin_unreachable();
}

constexpr int kExitFailed = 1;

void ReportFailure(RunChannel& channel, const Failure& failure) {
  spdlog::error("cause={} error={}", failure.cause, failure.error);
  spdlog::default_logger()->flush();
  channel.Report("failed", {{"cause", failure.cause}, {"error", failure.error}});
}

std::variant<JobOutcome, Failure> RunGuarded(
    const std::function<absl::StatusOr<JobOutcome>()>& job) {
  try {
    const absl::StatusOr<JobOutcome> outcome = job();
    if (outcome.ok()) return *outcome;
    return FailureOf(outcome.status());
  } catch (...) {
    return CurrentExceptionFailure();
  }
}

}  // namespace

void FailNow(RunChannel& channel, const Failure& failure) {
  ReportFailure(channel, failure);
  std::_Exit(kExitFailed);
}

Failure FailureOf(const absl::Status& status) {
  const auto cause = [&] {
    switch (status.code()) {
      case absl::StatusCode::kInvalidArgument:
      case absl::StatusCode::kNotFound:
      case absl::StatusCode::kFailedPrecondition:
      case absl::StatusCode::kDataLoss:
      case absl::StatusCode::kUnimplemented:
        return "CAUSE_BAD_INPUT";
      case absl::StatusCode::kResourceExhausted:
      case absl::StatusCode::kPermissionDenied:
      case absl::StatusCode::kUnavailable:
        return "CAUSE_STORAGE";
      case absl::StatusCode::kDeadlineExceeded:
        return "CAUSE_COLLECTIVE_FAILED";  // ranks that did not meet
      default:
        return "CAUSE_INTERNAL";
    }
  }();
  return {cause, Message(status)};
}

Failure CurrentExceptionFailure() {
  try {
    throw;
  } catch (const training::NonFiniteLoss& error) {
    return {"CAUSE_NON_FINITE_LOSS", error.what()};
  } catch (const training::LossSpike& error) {
    return {"CAUSE_LOSS_SPIKE", error.what()};
  } catch (const parallel::CollectiveError& error) {
    return {"CAUSE_COLLECTIVE_FAILED", error.what()};
  } catch (const training::DamagedCheckpoint& error) {
    return {"CAUSE_DAMAGED_CHECKPOINT", error.what()};
  } catch (const training::CheckpointError& error) {
    const bool bad_input = absl::IsInvalidArgument(error.status());
    return {bad_input ? "CAUSE_BAD_INPUT" : "CAUSE_STORAGE", error.what()};
  } catch (const std::invalid_argument& error) {
    return {"CAUSE_BAD_INPUT", error.what()};
  } catch (const c10::OutOfMemoryError& error) {
    return {"CAUSE_OUT_OF_MEMORY", error.what_without_backtrace()};
  } catch (const c10::Error& error) {
    const std::string message = error.what_without_backtrace();
    return {IsOutOfMemory(message) ? "CAUSE_OUT_OF_MEMORY" : "CAUSE_INTERNAL", message};
  } catch (const std::bad_alloc&) {
    return {"CAUSE_OUT_OF_MEMORY", "the process could not get more memory"};
  } catch (const std::exception& error) {
    return {"CAUSE_INTERNAL", error.what()};
  } catch (...) {
    return {"CAUSE_INTERNAL", "an exception of unknown type"};
  }
}

int RunToEnd(RunChannel& channel, const std::function<absl::StatusOr<JobOutcome>()>& job) {
  const std::variant<JobOutcome, Failure> ending = RunGuarded(job);
  if (const auto* failure = std::get_if<Failure>(&ending)) {
    ReportFailure(channel, *failure);
    return kExitFailed;
  }
  const JobOutcome& outcome = std::get<JobOutcome>(ending);
  if (outcome.stopped != StopReason::kNone) {
    spdlog::info("stopped cause={}", StopCause(outcome.stopped));
    channel.Report("stopped", {{"cause", StopCause(outcome.stopped)}});
    return 0;
  }
  spdlog::info("finished: {}", outcome.summary);
  channel.Report("finished", {{"summary", outcome.summary}});
  return 0;
}

}  // namespace moe::rank
