#include "storage/rocks/fsck.h"

#include <charconv>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <utility>

#include "common/audit/audit_chain.h"
#include "common/status.h"
#include "moe/v1/record.pb.h"
#include "storage/rocks/database.h"
#include "storage/rocks/store.h"

namespace moe::storage {
namespace {

constexpr char kRestore[] = "restore a backup: moe-coordinator restore";
constexpr char kReport[] =
    "the coordinator would work with it as it is; report it as a bug, with this line";

// 17 of "j17".
std::optional<uint64_t> NumberOf(char letter, const std::string& id) {
  uint64_t number = 0;
  const char* end = id.data() + id.size();
  if (id.size() < 2 || id[0] != letter) return std::nullopt;
  const auto [rest, error] = std::from_chars(id.data() + 1, end, number);
  if (error != std::errc() || rest != end) return std::nullopt;
  return number;
}

bool HasRanks(v1::JobState state) {
  return state == v1::JOB_STATE_STARTING || state == v1::JOB_STATE_RUNNING ||
         state == v1::JOB_STATE_STOPPING;
}

using AttemptId = std::pair<uint64_t, int32_t>;

std::string JobName(uint64_t job) { return fmt::format("j{}", job); }
std::string AttemptName(const AttemptId& id) { return fmt::format("j{}.{}", id.first, id.second); }

class Checker {
 public:
  Checker(const Database& database, FsckReport* report,
          const std::function<void(const v1::Artefact&)>& visit_artefact)
      : database_(database), report_(*report), visit_artefact_(visit_artefact) {}

  // Jobs and artefacts first: the others refer to them.
  void Run() {
    CheckFiles();
    CheckMeta();
    CheckJobs();
    CheckArtefacts();
    CheckReferencesOfJobs();
    CheckAttempts();
    CheckJobsHaveTheirAttempts();
    CheckRanks();
    CheckOfJob(Family::kEvents, 16);
    CheckOfJob(Family::kSteps, 16);
    CheckRendezvous();
    CheckLogs();
    CheckSampler();
    CheckRequests();
    CheckTokens();
    CheckWorkers();
    CheckLedgers();
    CheckAudit();
  }

 private:
  void Find(std::string where, std::string problem, std::string advice) {
    if (++report_.num_findings > kMaxFindings) return;
    report_.findings.push_back({std::move(where), std::move(problem), std::move(advice)});
  }

  // Calls `check(key, value)` for every record whose key has `key_bytes` bytes (0: any number).
  template <typename Check>
  void ForEach(Family family, size_t key_bytes, Check check) {
    const absl::Status status = database_.Scan(
        family, "", "",
        [&](const std::string& key, const rocksdb::Slice& value) -> absl::StatusOr<bool> {
          ++report_.num_records;
          if (key_bytes != 0 && key.size() != key_bytes) {
            Find(FamilyName(family),
                 fmt::format("a key has {} bytes and not {}", key.size(), key_bytes), kRestore);
          } else {
            check(key, value);
          }
          return true;
        });
    if (!status.ok()) Find(FamilyName(family), Message(status), kRestore);
  }

  template <typename Record>
  std::optional<Record> Parse(const std::string& where, const rocksdb::Slice& value) {
    Record record;
    if (record.ParseFromArray(value.data(), static_cast<int>(value.size()))) return record;
    Find(where, fmt::format("{} bytes that are no {}", value.size(), record.GetTypeName()),
         kRestore);
    return std::nullopt;
  }

  void CheckFiles() {
    const rocksdb::Status status = database_.rocks()->VerifyChecksum();
    if (!status.ok()) Find("files", status.ToString(), kRestore);
  }

  void CheckMeta() {
    ForEach(Family::kMeta, 0, [&](const std::string& key, const rocksdb::Slice& value) {
      if (key == "store_id") {
        if (value.size() != 32) Find("meta/store_id", "is not 32 digits", kRestore);
      } else if (value.size() != 8) {
        Find("meta/" + key, fmt::format("has {} bytes and not 8", value.size()), kRestore);
      } else {
        numbers_[key] = ReadU64(value.ToString(), 0);
      }
    });
    report_.schema_version = numbers_["schema_version"];
  }

  bool HasJob(const std::string& where, uint64_t job) {
    if (jobs_.contains(job)) return true;
    Find(where, fmt::format("belongs to job {}, which is not there", JobName(job)), kRestore);
    return false;
  }

  void CheckJobs() {
    ForEach(Family::kJobs, 8, [&](const std::string& key, const rocksdb::Slice& value) {
      const uint64_t number = ReadU64(key, 0);
      const std::string where = "jobs/" + JobName(number);
      auto record = Parse<v1::JobRecord>(where, value);
      if (!record.has_value()) return;
      const v1::Job& job = record->job();
      if (NumberOf('j', job.job_id()) != number) {
        Find(where, fmt::format("says that it is '{}'", job.job_id()), kRestore);
      }
      if (number >= numbers_["next_job"]) {
        Find(where, fmt::format("the next number to be given is {}", numbers_["next_job"]),
             kRestore);
      }
      const auto pipeline = NumberOf('p', job.pipeline_id());
      if (!pipeline.has_value() || *pipeline >= numbers_["next_pipeline"]) {
        Find(where,
             fmt::format("is of pipeline '{}'; the next number to be given is {}",
                         job.pipeline_id(), numbers_["next_pipeline"]),
             kRestore);
      }
      if (job.revision() > static_cast<int64_t>(numbers_["revision"])) {
        Find(where,
             fmt::format("is of revision {}, above the store's {}", job.revision(),
                         numbers_["revision"]),
             kRestore);
      }
      if (job.state() == v1::JOB_STATE_UNSPECIFIED) Find(where, "has no state", kRestore);
      jobs_.emplace(number, *std::move(record));
    });
  }

  void CheckArtefacts() {
    ForEach(Family::kArtefacts, 0, [&](const std::string& key, const rocksdb::Slice& value) {
      const auto record = Parse<v1::ArtefactRecord>("artefacts", value);
      if (!record.has_value()) return;
      const v1::Artefact& artefact = record->artefact();
      const std::string reference = fmt::format("{}:{}", artefact.name(), artefact.version());
      const std::string where = "artefacts/" + reference;
      if (key != ArtefactKey(artefact.name(), artefact.version())) {
        Find(where, "is kept under another name", kRestore);
      }
      if (artefact.version() > static_cast<int64_t>(numbers_[VersionCounterKey(artefact.name())])) {
        Find(where, "has a version that was never given", kRestore);
      }
      const auto job = NumberOf('j', artefact.job_id());
      if (!job.has_value() || !jobs_.contains(*job)) {
        Find(where, fmt::format("was made by job '{}', which is not there", artefact.job_id()),
             kRestore);
      }
      artefacts_.insert(reference);
      visit_artefact_(artefact);
    });
  }

  void CheckReferencesOfJobs() {
    for (const auto& [number, record] : jobs_) {
      const std::string where = "jobs/" + JobName(number);
      for (const std::string& need : record.job().need_job_ids()) {
        const auto needed = NumberOf('j', need);
        if (!needed.has_value() || !jobs_.contains(*needed)) {
          Find(where, fmt::format("needs job '{}', which is not there", need), kRestore);
        }
      }
      if (!record.resume_artefact().empty() && !artefacts_.contains(record.resume_artefact())) {
        Find(
            where,
            fmt::format("resumes from {}, which is not in the catalogue", record.resume_artefact()),
            "the next attempt starts from the beginning; cancel the job if that is not wanted");
      }
    }
  }

  void CheckAttempts() {
    ForEach(Family::kAttempts, 12, [&](const std::string& key, const rocksdb::Slice& value) {
      const AttemptId id = {ReadU64(key, 0), static_cast<int32_t>(ReadU32(key, 8))};
      const std::string where = "attempts/" + AttemptName(id);
      auto record = Parse<v1::AttemptRecord>(where, value);
      if (!record.has_value() || !HasJob(where, id.first)) return;
      const v1::Job& job = jobs_.at(id.first).job();
      if (id.second > job.attempt()) {
        Find(where, fmt::format("the job has had {} attempts", job.attempt()), kRestore);
      }
      if (!record->ended() && (!HasRanks(job.state()) || id.second != job.attempt())) {
        Find(where,
             fmt::format("has not ended, while job {} is {} with attempt {}", JobName(id.first),
                         v1::JobState_Name(job.state()), job.attempt()),
             kRestore);
      }
      attempts_.emplace(id, *std::move(record));
    });
  }

  void CheckJobsHaveTheirAttempts() {
    for (const auto& [number, record] : jobs_) {
      const v1::Job& job = record.job();
      if (HasRanks(job.state()) && !attempts_.contains({number, job.attempt()})) {
        Find("jobs/" + JobName(number),
             fmt::format("is {}, and its attempt {} is not there", v1::JobState_Name(job.state()),
                         job.attempt()),
             kRestore);
      }
    }
  }

  // Whether the key's first 12 bytes name an attempt that lives.
  bool HasAttempt(const std::string& where, const AttemptId& id) {
    if (attempts_.contains(id)) return true;
    Find(where, fmt::format("belongs to attempt {}, which is over", AttemptName(id)), kReport);
    return false;
  }

  void CheckRanks() {
    ForEach(Family::kRanks, 16, [&](const std::string& key, const rocksdb::Slice& value) {
      const AttemptId id = {ReadU64(key, 0), static_cast<int32_t>(ReadU32(key, 8))};
      const auto rank = static_cast<int32_t>(ReadU32(key, 12));
      const std::string where = fmt::format("ranks/{} rank {}", AttemptName(id), rank);
      if (!Parse<v1::RankRecord>(where, value).has_value() || !HasAttempt(where, id)) return;
      int32_t world_size = 0;
      for (const v1::Placement& placement : attempts_.at(id).placements()) {
        world_size += placement.slots_size();
      }
      if (rank >= world_size) {
        Find(where, fmt::format("the attempt has {} ranks", world_size), kRestore);
      }
    });
  }

  void CheckRendezvous() {
    ForEach(Family::kRendezvous, 0, [&](const std::string& key, const rocksdb::Slice&) {
      if (key.size() < 12) return Find("rendezvous", "a key is too short", kRestore);
      const AttemptId id = {ReadU64(key, 0), static_cast<int32_t>(ReadU32(key, 8))};
      HasAttempt("rendezvous/" + AttemptName(id), id);
    });
  }

  // Records under a job's number and a number of their own, which they repeat.
  void CheckOfJob(Family family, size_t key_bytes) {
    ForEach(family, key_bytes, [&](const std::string& key, const rocksdb::Slice& value) {
      const uint64_t job = ReadU64(key, 0);
      const uint64_t own = ReadU64(key, 8);
      const std::string where =
          fmt::format("{}/{} number {}", FamilyName(family), JobName(job), own);
      if (!HasJob(where, job)) return;
      uint64_t repeated = own;
      if (family == Family::kEvents) {
        const auto event = Parse<v1::JobEvent>(where, value);
        if (!event.has_value()) return;
        repeated = static_cast<uint64_t>(event->revision());
      } else {
        const auto step = Parse<v1::StepReport>(where, value);
        if (!step.has_value()) return;
        repeated = static_cast<uint64_t>(step->step());
      }
      if (repeated != own) Find(where, fmt::format("says that it is {}", repeated), kRestore);
    });
  }

  void CheckLogs() {
    std::string rank;       // the key of the one before
    uint64_t expected = 0;  // where its next piece starts
    ForEach(Family::kLogs, 24, [&](const std::string& key, const rocksdb::Slice& value) {
      const AttemptId id = {ReadU64(key, 0), static_cast<int32_t>(ReadU32(key, 8))};
      const std::string where = fmt::format("logs/{} rank {}", AttemptName(id), ReadU32(key, 12));
      if (key.substr(0, 16) != rank) {
        rank = key.substr(0, 16);
        expected = 0;
        HasJob(where, id.first);
      }
      const uint64_t offset = ReadU64(key, 16);
      if (offset != expected) {
        Find(where, fmt::format("goes from byte {} to {}", expected, offset),
             "the job is not affected; what is between is lost");
      }
      expected = offset + value.size();
    });
  }

  void CheckSampler() {
    std::map<uint64_t, int64_t> newest;
    ForEach(Family::kSampler, 16, [&](const std::string& key, const rocksdb::Slice& value) {
      const uint64_t job = ReadU64(key, 0);
      const auto version = static_cast<int64_t>(ReadU64(key, 8));
      const std::string where = fmt::format("sampler/{} decision {}", JobName(job), version);
      const auto decision = Parse<v1::SamplerDecision>(where, value);
      if (!decision.has_value() || !HasJob(where, job)) return;
      if (decision->version() != version || version != newest[job] + 1) {
        Find(where,
             fmt::format("comes after {} and says that it is {}", newest[job], decision->version()),
             kRestore);
      }
      newest[job] = version;
    });
  }

  void CheckRequests() {
    ForEach(Family::kRequestIds, 0, [&](const std::string& key, const rocksdb::Slice& value) {
      const std::string where = "request_ids/" + key;
      const auto record = Parse<v1::RequestRecord>(where, value);
      if (!record.has_value()) return;
      for (const std::string& job_id : record->job_ids()) {
        const auto job = NumberOf('j', job_id);
        if (!job.has_value() || !HasJob(where, *job)) continue;
        if (jobs_.at(*job).job().pipeline_id() != record->pipeline_id()) {
          Find(where, fmt::format("names {} of another pipeline", job_id), kRestore);
        }
      }
    });
  }

  void CheckTokens() {
    ForEach(Family::kTokens, 32, [&](const std::string&, const rocksdb::Slice& value) {
      Parse<v1::Token>("tokens", value);
    });
  }

  void CheckWorkers() {
    ForEach(Family::kWorkers, 0, [&](const std::string& key, const rocksdb::Slice& value) {
      Parse<v1::WorkerRecord>("workers/" + key, value);
    });
  }

  void CheckLedgers() {
    ForEach(Family::kLedgers, 12, [&](const std::string& key, const rocksdb::Slice& value) {
      const uint64_t job = ReadU64(key, 0);
      const std::string where = fmt::format("ledgers/{}.{}", JobName(job), ReadU32(key, 8));
      if (Parse<v1::AttemptLedger>(where, value).has_value()) HasJob(where, job);
    });
  }

  void CheckAudit() {
    AuditChain chain;
    bool holds = true;
    ForEach(Family::kAudit, 8, [&](const std::string& key, const rocksdb::Slice& value) {
      const auto entry = Parse<v1::AuditEntry>("audit", value);
      if (!entry.has_value() || !holds) return;
      absl::Status status = chain.Follow(*entry);
      if (status.ok() && AuditKey(entry->seq()) != key) {
        status = DataLoss("entry {} is kept under another number", entry->seq());
      }
      holds = status.ok();
      if (!holds) {
        Find("audit", Message(status),
             "find out who could write to the store; what was exported before still tells");
      }
    });
  }

  const Database& database_;
  FsckReport& report_;
  const std::function<void(const v1::Artefact&)>& visit_artefact_;
  std::map<std::string, uint64_t> numbers_;  // of `meta`
  std::map<uint64_t, v1::JobRecord> jobs_;
  std::map<AttemptId, v1::AttemptRecord> attempts_;
  std::set<std::string> artefacts_;  // references
};

}  // namespace

absl::StatusOr<FsckReport> Fsck(const std::string& path,
                                const std::function<void(const v1::Artefact&)>& visit_artefact) {
  FsckReport report;
  const auto database = Database::OpenReadOnly(path);
  if (absl::IsFailedPrecondition(database.status()) || absl::IsNotFound(database.status())) {
    return database.status();
  }
  if (!database.ok()) {
    report.findings.push_back({"files", Message(database.status()), kRestore});
    report.num_findings = 1;
    return report;
  }
  Checker checker(**database, &report, visit_artefact);
  checker.Run();
  if (report.schema_version > kSchemaVersion) {
    return FailedPrecondition(
        "the store {} has schema version {}, this moe-coordinator knows up to {}; use the version "
        "that wrote it",
        path, report.schema_version, kSchemaVersion);
  }
  return report;
}

}  // namespace moe::storage
