#include "storage/rocks/keys.h"

#include "common/check.h"

namespace moe::storage {

void AppendU32(uint32_t value, std::string* key) {
  for (int shift = 24; shift >= 0; shift -= 8) key->push_back(static_cast<char>(value >> shift));
}

void AppendU64(uint64_t value, std::string* key) {
  AppendU32(static_cast<uint32_t>(value >> 32), key);
  AppendU32(static_cast<uint32_t>(value), key);
}

uint32_t ReadU32(const std::string& key, size_t offset) {
  MOE_CHECK(offset + 4 <= key.size());
  uint32_t value = 0;
  for (size_t i = 0; i < 4; ++i) value = value << 8 | static_cast<uint8_t>(key[offset + i]);
  return value;
}

uint64_t ReadU64(const std::string& key, size_t offset) {
  return uint64_t{ReadU32(key, offset)} << 32 | ReadU32(key, offset + 4);
}

std::string JobKey(uint64_t job) {
  std::string key;
  AppendU64(job, &key);
  return key;
}

std::string EventKey(uint64_t job, int64_t revision) {
  std::string key = JobKey(job);
  AppendU64(static_cast<uint64_t>(revision), &key);
  return key;
}

std::string StepKey(uint64_t job, int64_t step) {
  std::string key = JobKey(job);
  AppendU64(static_cast<uint64_t>(step), &key);
  return key;
}

std::string DecisionKey(uint64_t job, int64_t version) {
  std::string key = JobKey(job);
  AppendU64(static_cast<uint64_t>(version), &key);
  return key;
}

std::string AttemptKey(uint64_t job, int32_t attempt) {
  std::string key = JobKey(job);
  AppendU32(static_cast<uint32_t>(attempt), &key);
  return key;
}

std::string RankRecordKey(const RankKey& rank) {
  std::string key = AttemptKey(rank.job, rank.attempt);
  AppendU32(static_cast<uint32_t>(rank.rank), &key);
  return key;
}

std::string LogKey(const RankKey& rank, int64_t offset) {
  std::string key = RankRecordKey(rank);
  AppendU64(static_cast<uint64_t>(offset), &key);
  return key;
}

std::string RendezvousKey(uint64_t job, int32_t attempt, const std::string& key) {
  return AttemptKey(job, attempt) + key;
}

std::string ArtefactKey(const std::string& name, int32_t version) {
  std::string key = name;
  key.push_back('\0');
  AppendU32(static_cast<uint32_t>(version), &key);
  return key;
}

std::string AuditKey(int64_t seq) {
  std::string key;
  AppendU64(static_cast<uint64_t>(seq), &key);
  return key;
}

std::string VersionCounterKey(const std::string& name) { return "version/" + name; }

}  // namespace moe::storage
