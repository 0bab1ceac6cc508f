// Who asked for what, and what came of it (proto/moe/v1/audit.proto).
//
// A call that changes something is written in the batch of its change. A refused call changes
// nothing and could come in floods: of equal refusals the first is written at once, and the others
// as one entry with their number when some time has gone by. All refusals together get so many
// entries and no more, so that nobody fills the disk; what has to wait is counted meanwhile.
#pragma once

#include <cstdint>
#include <functional>
#include <limits>
#include <map>
#include <string>

#include "absl/base/thread_annotations.h"
#include "absl/status/status.h"
#include "absl/synchronization/mutex.h"
#include "common/audit/audit_chain.h"
#include "coordinator/rate_limiter.h"
#include "coordinator/turn.h"
#include "moe/v1/audit.pb.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

// What is known of whoever calls; what is not known is empty.
struct Caller {
  std::string user;  // of the token
  v1::Role role = v1::ROLE_UNSPECIFIED;
  std::string token_id;
  std::string worker_id;  // of a worker's certificate
  std::string peer;       // an address, or what the certificate says
};

class AuditJournal {
 public:
  // Equal refusals are summed up over this long.
  static constexpr int64_t kSummaryMillis = 10'000;
  // As many kinds of refusals are kept apart; more are one kind, without a caller.
  static constexpr size_t kMaxKinds = 1000;
  // Entries of refusals that may be written at once, and how long until there is room for one more:
  // 600 kB, and then 2.6 MB a day.
  static constexpr int kMaxEntriesAtOnce = 2000;
  static constexpr int64_t kMillisPerEntry = 10'000;

  // `wake` has BeforeCommit called soon; called from any thread.
  explicit AuditJournal(std::function<void()> wake) : wake_(std::move(wake)) {}

  // On the loop's thread, before anything else.
  absl::Status Load(const storage::Store& store);

  // A call that was decided in this turn. `target`: what it was to change. On the loop's thread.
  void Record(Turn& turn, const Caller& caller, const std::string& method,
              const std::string& target, const absl::Status& outcome);
  // A call that was refused before it came to a turn. From any thread.
  void Refuse(const Caller& caller, const std::string& method, const std::string& target,
              const absl::Status& why);

  // Writes the refusals that are due. At the end of every group of changes.
  void BeforeCommit(Turn& turn);
  // When BeforeCommit wants to run next; monotonic.
  int64_t NextDeadlineMillis() const { return next_deadline_millis_; }

 private:
  // Equal refusals: same caller but for the port, same method, same code.
  struct Kind {
    v1::AuditEntry entry;        // the newest; its count is what is not written yet
    int64_t written_millis = 0;  // monotonic; when an entry was last written
    bool was_written = false;
  };

  void Append(Turn& turn, v1::AuditEntry entry);

  const std::function<void()> wake_;

  // Loop thread only: ahead of the disk within a turn.
  AuditChain chain_;
  RateLimiter room_{{.calls_per_second = 1000.0 / kMillisPerEntry, .burst = kMaxEntriesAtOnce}};
  int64_t next_deadline_millis_ = std::numeric_limits<int64_t>::max();

  absl::Mutex mutex_;
  std::map<std::string, Kind> kinds_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace moe::coordinator
