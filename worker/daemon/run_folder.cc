#include "worker/daemon/run_folder.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <sstream>

#include "common/file.h"
#include "common/json.h"
#include "common/status.h"

namespace moe::worker {
namespace {

constexpr char kRankPrefix[] = "rank-";

std::optional<int> ParseInt(const std::string& text) {
  int value = 0;
  const auto result = std::from_chars(text.data(), text.data() + text.size(), value);
  if (result.ec != std::errc() || result.ptr != text.data() + text.size()) return std::nullopt;
  return value;
}

// A file that may be missing.
absl::StatusOr<std::optional<std::string>> ReadIfExists(const std::string& path) {
  auto content = ReadFile(path);
  if (absl::IsNotFound(content.status())) return std::optional<std::string>();
  MOE_RETURN_IF_ERROR(content.status());
  return std::optional<std::string>(*std::move(content));
}

}  // namespace

std::string AttemptKey::Name() const { return fmt::format("{}.{}", job_id, attempt); }

absl::StatusOr<AttemptKey> AttemptKey::Parse(const std::string& name) {
  const size_t dot = name.rfind('.');
  const auto safe = [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_';
  };
  if (dot != std::string::npos && dot > 0 && std::all_of(name.begin(), name.begin() + dot, safe)) {
    const auto attempt = ParseInt(name.substr(dot + 1));
    if (attempt.has_value() && *attempt >= 1) {
      AttemptKey key{.job_id = name.substr(0, dot), .attempt = *attempt};
      if (key.Name() == name) return key;
    }
  }
  return InvalidArgument(
      "'{}' does not name an attempt: expected JOB.ATTEMPT, JOB of letters, digits, - and _, "
      "ATTEMPT from 1, like j17.2",
      name);
}

absl::StatusOr<std::optional<ProcessIdentity>> RankFolder::ReadProcess() const {
  const std::string path = process_path();
  MOE_ASSIGN_OR_RETURN(const auto content, ReadIfExists(path));
  if (!content.has_value()) return std::optional<ProcessIdentity>();
  ProcessIdentity process;
  std::istringstream fields(*content);
  if (!(fields >> process.pid >> process.start_time) || process.pid <= 0) {
    return DataLoss("{} should hold 'PID START_TIME', not '{}'", path, *content);
  }
  return std::optional<ProcessIdentity>(process);
}

absl::Status RankFolder::WriteExit(const ProcessExit& exit) const {
  return ReplaceFile(path_ + "/exit", fmt::format("{} {}\n", exit.exit_code, exit.signal));
}

absl::StatusOr<std::optional<ProcessExit>> RankFolder::ReadExit() const {
  const std::string path = path_ + "/exit";
  MOE_ASSIGN_OR_RETURN(const auto content, ReadIfExists(path));
  if (!content.has_value()) return std::optional<ProcessExit>();
  ProcessExit exit;
  std::istringstream fields(*content);
  if (!(fields >> exit.exit_code >> exit.signal)) {
    return DataLoss("{} should hold 'EXIT_CODE SIGNAL', not '{}'", path, *content);
  }
  return std::optional<ProcessExit>(exit);
}

absl::Status RankFolder::WriteLease(int64_t until_monotonic_ms) const {
  // Not synced: the clock that it is of ends with the machine.
  const std::string path = path_ + "/lease";
  const FileDescriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
  if (!file.valid()) return ErrnoStatus(errno, "cannot write " + path);
  const std::string text = std::to_string(until_monotonic_ms) + "\n";
  return WriteAll(file.get(), text.data(), text.size(), path);
}

absl::Status RankFolder::WriteFailedReport(const std::string& cause, const std::string& error,
                                           int64_t unix_millis) const {
  const auto size = FileSize(reports_path());
  if (size.ok() && *size > 0) return absl::OkStatus();
  const Json report = {
      {"seq", 1}, {"unix_millis", unix_millis}, {"failed", {{"cause", cause}, {"error", error}}}};
  return ReplaceFile(reports_path(),
                     report.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n");
}

absl::Status RunFolder::Create(const std::string& run_spec_json,
                               const std::vector<int>& ranks) const {
  MOE_RETURN_IF_ERROR(RemoveTree(path_));
  for (const int rank : ranks) MOE_RETURN_IF_ERROR(MakeDirectories(Rank(rank).path()));
  return ReplaceFile(path_ + "/run.json", run_spec_json);
}

bool RunFolder::Exists() const { return FileExists(path_ + "/run.json"); }

absl::StatusOr<std::vector<int>> RunFolder::Ranks() const {
  MOE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(path_));
  std::vector<int> ranks;
  for (const std::string& name : names) {
    if (!name.starts_with(kRankPrefix)) continue;
    const auto rank = ParseInt(name.substr(sizeof kRankPrefix - 1));
    if (rank.has_value() && *rank >= 0) ranks.push_back(*rank);
  }
  std::sort(ranks.begin(), ranks.end());
  return ranks;
}

absl::StatusOr<int64_t> RunFolder::LeaseTtlMs() const {
  MOE_ASSIGN_OR_RETURN(const Json run_spec, ReadJsonFile(path_ + "/run.json"));
  JsonReader reader(run_spec, path_ + "/run.json");
  const int64_t ttl_ms = reader.Int("lease_ttl_ms");
  MOE_RETURN_IF_ERROR(reader.status());
  return ttl_ms;
}

absl::Status RunFolder::Remove() const {
  if (::unlink((path_ + "/run.json").c_str()) != 0 && errno != ENOENT) {
    return ErrnoStatus(errno, "cannot remove " + path_ + "/run.json");
  }
  return RemoveTree(path_);
}

absl::StatusOr<std::vector<AttemptKey>> ListRunFolders(const std::string& root) {
  MOE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(root));
  std::vector<AttemptKey> keys;
  for (const std::string& name : names) {
    const auto key = AttemptKey::Parse(name);
    if (!key.ok()) {
      spdlog::warn("ignored {}/{}: {}", root, name, Message(key.status()));
      continue;
    }
    const RunFolder folder(root, *key);
    if (folder.Exists()) {
      keys.push_back(*key);
    } else {
      MOE_RETURN_IF_ERROR(folder.Remove());
    }
  }
  return keys;
}

}  // namespace moe::worker
