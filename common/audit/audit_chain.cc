#include "common/audit/audit_chain.h"

#include "common/net/sha256.h"
#include "common/status.h"

namespace moe {
namespace {

// Fields are serialized in the order of their numbers, and there are no maps: equal entries give
// equal bytes in every program.
std::string HashOf(v1::AuditEntry entry) {
  entry.clear_hash();
  return Sha256(entry.SerializeAsString());
}

}  // namespace

void AuditChain::Append(v1::AuditEntry* entry) {
  entry->set_seq(end_.seq + 1);
  entry->set_previous_hash(end_.hash);
  entry->set_hash(HashOf(*entry));
  end_ = {.seq = entry->seq(), .hash = entry->hash()};
}

absl::Status AuditChain::Follow(const v1::AuditEntry& entry) {
  if (entry.seq() != end_.seq + 1) {
    return DataLoss("entry {} comes after entry {}: entries are missing or in another order",
                    entry.seq(), end_.seq);
  }
  if (entry.previous_hash() != end_.hash) {
    return DataLoss("entry {} does not hold the hash of entry {}: one of the two was replaced",
                    entry.seq(), end_.seq);
  }
  if (entry.hash() != HashOf(entry)) {
    return DataLoss("entry {} does not have the hash that it holds: it was changed", entry.seq());
  }
  end_ = {.seq = entry.seq(), .hash = entry.hash()};
  return absl::OkStatus();
}

}  // namespace moe
