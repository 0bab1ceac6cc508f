#include "coordinator/audit_journal.h"

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "common/status.h"
#include "coordinator/timestamp.h"

namespace moe::coordinator {
namespace {

// What callers send is theirs to choose: an entry stays small whatever it is.
constexpr size_t kMaxTargetBytes = 256;
constexpr size_t kMaxMessageBytes = 512;

// Cut between characters: protobuf's strings are UTF-8.
std::string Cut(const std::string& text, size_t limit) {
  if (text.size() <= limit) return text;
  size_t end = limit;
  while (end > 0 && (static_cast<uint8_t>(text[end]) & 0xc0) == 0x80) --end;
  return text.substr(0, end) + "...";
}

v1::AuditEntry EntryOf(const Caller& caller, const std::string& method, const std::string& target,
                       const absl::Status& outcome) {
  v1::AuditEntry entry;
  entry.set_user(caller.user);
  entry.set_token_id(caller.token_id);
  entry.set_worker_id(caller.worker_id);
  entry.set_peer(caller.peer);
  entry.set_method(method);
  entry.set_target(Cut(target, kMaxTargetBytes));
  entry.set_code(absl::StatusCodeToString(outcome.code()));
  if (!outcome.ok()) entry.set_message(Cut(Message(outcome), kMaxMessageBytes));
  entry.set_count(1);
  return entry;
}

// "ipv4:10.0.0.7:40312" without the port, which is another one for every connection.
std::string Host(const std::string& peer) { return peer.substr(0, peer.rfind(':')); }

std::string KindOf(const v1::AuditEntry& entry) {
  return fmt::format("{}\n{}\n{}\n{}\n{}", entry.user(), entry.worker_id(), Host(entry.peer()),
                     entry.method(), entry.code());
}

}  // namespace

absl::Status AuditJournal::Load(const storage::Store& store) {
  MOE_ASSIGN_OR_RETURN(const auto last, store.LastAudit());
  if (last.has_value()) chain_ = AuditChain({.seq = last->seq(), .hash = last->hash()});
  return absl::OkStatus();
}

void AuditJournal::Append(Turn& turn, v1::AuditEntry entry) {
  *entry.mutable_time() = ToTimestamp(turn.unix_millis);
  chain_.Append(&entry);
  turn.batch.PutAudit(entry);
}

void AuditJournal::Record(Turn& turn, const Caller& caller, const std::string& method,
                          const std::string& target, const absl::Status& outcome) {
  if (!outcome.ok()) return Refuse(caller, method, target, outcome);
  Append(turn, EntryOf(caller, method, target, outcome));
}

void AuditJournal::Refuse(const Caller& caller, const std::string& method,
                          const std::string& target, const absl::Status& why) {
  v1::AuditEntry entry = EntryOf(caller, method, target, why);
  std::string name = KindOf(entry);
  bool is_new = false;
  {
    absl::MutexLock lock(&mutex_);
    if (kinds_.size() >= kMaxKinds && !kinds_.contains(name)) {
      entry = EntryOf({}, "many", "", why);
      entry.set_message(
          fmt::format("refusals of more than {} kinds; only their number is kept", kMaxKinds));
      name.clear();
    }
    const auto [it, added] = kinds_.try_emplace(name);
    is_new = added;
    entry.set_count(it->second.entry.count() + 1);
    it->second.entry = std::move(entry);
  }
  if (is_new) wake_();
}

void AuditJournal::BeforeCommit(Turn& turn) {
  const int64_t now = turn.monotonic_millis;
  int64_t next = std::numeric_limits<int64_t>::max();
  absl::MutexLock lock(&mutex_);
  std::vector<Kind*> due;
  for (auto it = kinds_.begin(); it != kinds_.end();) {
    Kind& kind = it->second;
    if (kind.was_written && now < kind.written_millis + kSummaryMillis) {
      next = std::min(next, kind.written_millis + kSummaryMillis);
      ++it;
    } else if (kind.entry.count() > 0) {
      due.push_back(&kind);
      ++it;
    } else {
      it = kinds_.erase(it);
    }
  }
  // Where there is not room for all, first who has waited longest.
  std::stable_sort(due.begin(), due.end(), [](const Kind* a, const Kind* b) {
    return std::pair(a->was_written, a->written_millis) <
           std::pair(b->was_written, b->written_millis);
  });
  for (Kind* kind : due) {
    const double wait_seconds = room_.Take("", now);
    if (wait_seconds > 0) {
      next = std::min(next, now + static_cast<int64_t>(std::ceil(wait_seconds * 1000)));
      break;
    }
    Append(turn, kind->entry);
    kind->entry.set_count(0);
    kind->was_written = true;
    kind->written_millis = now;
    next = std::min(next, now + kSummaryMillis);
  }
  next_deadline_millis_ = next;
}

}  // namespace moe::coordinator
