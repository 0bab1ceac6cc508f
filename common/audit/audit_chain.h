// The chain of hashes in the audit journal (proto/moe/v1/audit.proto): made by the coordinator,
// followed by whoever wants to know that nothing was changed, removed or moved.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "moe/v1/audit.pb.h"

namespace moe {

// The last entry of a journal, or of a part of one. Default: before the first entry.
struct AuditChainEnd {
  int64_t seq = 0;
  std::string hash = std::string(32, '\0');
};

class AuditChain {
 public:
  explicit AuditChain(AuditChainEnd end = {}) : end_(std::move(end)) {}

  const AuditChainEnd& end() const { return end_; }

  // Makes `entry` the next one: sets its seq, previous_hash and hash.
  void Append(v1::AuditEntry* entry);

  // Takes `entry` as the next one. DATA_LOSS where it cannot be, with its seq and what is wrong;
  // the chain then stays where it was.
  absl::Status Follow(const v1::AuditEntry& entry);

 private:
  AuditChainEnd end_;
};

}  // namespace moe
