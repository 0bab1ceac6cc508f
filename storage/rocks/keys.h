// Keys of the store, byte by byte as docs/formats/store.md has them. Stored: do not change.
#pragma once

#include <cstdint>
#include <string>

namespace moe::storage {

// Numbers are big-endian, so that byte order is numeric order.
void AppendU32(uint32_t value, std::string* key);
void AppendU64(uint64_t value, std::string* key);
// The number at `offset`; the key must be long enough.
uint32_t ReadU32(const std::string& key, size_t offset);
uint64_t ReadU64(const std::string& key, size_t offset);

// One rank of one attempt of job number `job` ("j17" is 17).
struct RankKey {
  uint64_t job = 0;
  int32_t attempt = 0;
  int32_t rank = 0;
};

std::string JobKey(uint64_t job);
std::string EventKey(uint64_t job, int64_t revision);
std::string StepKey(uint64_t job, int64_t step);
std::string DecisionKey(uint64_t job, int64_t version);
std::string AttemptKey(uint64_t job, int32_t attempt);
std::string RankRecordKey(const RankKey& rank);
std::string LogKey(const RankKey& rank, int64_t offset);
std::string RendezvousKey(uint64_t job, int32_t attempt, const std::string& key);
std::string ArtefactKey(const std::string& name, int32_t version);
std::string AuditKey(int64_t seq);
// In `meta`: when the store was brought back from a backup, until a coordinator has taken note.
inline constexpr char kRestoredKey[] = "restored_unix_millis";
std::string VersionCounterKey(const std::string& name);

}  // namespace moe::storage
