#include "coordinator/orphans.h"

#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <limits>
#include <regex>
#include <set>
#include <vector>

#include "common/file.h"
#include "common/status.h"
#include "coordinator/job_state.h"
#include "coordinator/outputs.h"

namespace moe::coordinator {
namespace {

constexpr std::array kKinds = {"dataset", "model", "checkpoint", "report"};

// A folder that belongs to one attempt, and what the catalogue knows in it.
struct AttemptFolder {
  AttemptId id;
  std::string kind;
  std::string name;  // "j17.2"
  std::string path;
  std::set<std::string> catalogued;  // full paths; may be `path` itself
};

absl::StatusOr<std::vector<AttemptFolder>> ListAttemptFolders(const std::string& artefact_root,
                                                              const Catalog& catalog,
                                                              const ArtefactFiles& files) {
  std::set<std::string> catalogued;
  const v1::ListArtefactsResponse all =
      catalog.List({}, std::numeric_limits<int>::max(), std::numeric_limits<int64_t>::max());
  for (const v1::Artefact& artefact : all.artefacts()) catalogued.insert(artefact.path());
  static const std::regex kAttemptFolder("j[0-9]+\\.[0-9]+");
  std::vector<AttemptFolder> folders;
  for (const char* kind : kKinds) {
    const std::string parent = JoinPath(artefact_root, kind);
    MOE_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(parent));
    for (const std::string& name : names) {
      if (!std::regex_match(name, kAttemptFolder)) continue;
      const size_t dot = name.find('.');
      AttemptFolder& folder = folders.emplace_back();
      folder.id = {*ParseJobId(name.substr(0, dot)), std::stoi(name.substr(dot + 1))};
      folder.kind = kind;
      folder.name = name;
      folder.path = JoinPath(parent, name);
      for (auto it = catalogued.lower_bound(folder.path);
           it != catalogued.end() && IsInside(*it, folder.path); ++it) {
        folder.catalogued.insert(*it);
      }
    }
  }
  return folders;
}

absl::Status RemoveWorkOfEndedJobs(const std::string& artefact_root, JobTable& jobs,
                                   const ArtefactFiles* files, FileWork* file_work) {
  static const std::regex kWorkFolder("j[0-9]+\\.unfinished");
  for (const char* kind : kKinds) {
    const std::string parent = JoinPath(artefact_root, kind);
    MOE_ASSIGN_OR_RETURN(const std::vector<std::string> names, files->List(parent));
    for (const std::string& name : names) {
      if (!std::regex_match(name, kWorkFolder)) continue;
      const v1::JobRecord* job = jobs.Find(*ParseJobId(name.substr(0, name.find('.'))));
      if (job != nullptr && !IsEnded(job->job().state())) continue;
      file_work->Post([files, path = JoinPath(parent, name)] { files->Remove(path); });
    }
  }
  return absl::OkStatus();
}

absl::Status MoveInto(const std::string& folder, const std::string& path, const std::string& name) {
  MOE_RETURN_IF_ERROR(MakeDirectories(folder));
  const std::string target = JoinPath(folder, name);
  if (std::rename(path.c_str(), target.c_str()) == 0) return absl::OkStatus();
  return ErrnoStatus(errno, fmt::format("cannot move {} to {}", path, target));
}

}  // namespace

absl::Status RemoveOrphans(const std::string& artefact_root, JobTable& jobs,
                           const AttemptMap& attempts, const Catalog& catalog,
                           const ArtefactFiles* files, FileWork* file_work) {
  MOE_ASSIGN_OR_RETURN(const std::vector<AttemptFolder> folders,
                       ListAttemptFolders(artefact_root, catalog, *files));
  for (const AttemptFolder& folder : folders) {
    if (attempts.contains(folder.id)) continue;
    file_work->Post(
        [files, path = folder.path, keep = folder.catalogued] { files->RemoveOthers(path, keep); });
  }
  return RemoveWorkOfEndedJobs(artefact_root, jobs, files, file_work);
}

absl::StatusOr<int> SetAsideUnknown(const std::string& artefact_root, const Catalog& catalog,
                                    const ArtefactFiles& files, const std::string& aside) {
  MOE_ASSIGN_OR_RETURN(const std::vector<AttemptFolder> folders,
                       ListAttemptFolders(artefact_root, catalog, files));
  int moved = 0;
  for (const AttemptFolder& folder : folders) {
    const std::string target = JoinPath(aside, folder.kind);
    if (folder.catalogued.empty()) {
      MOE_RETURN_IF_ERROR(MoveInto(target, folder.path, folder.name));
      ++moved;
      continue;
    }
    if (folder.catalogued.contains(folder.path)) continue;
    MOE_ASSIGN_OR_RETURN(const std::vector<std::string> names, files.List(folder.path));
    for (const std::string& name : names) {
      const std::string path = JoinPath(folder.path, name);
      if (folder.catalogued.contains(path)) continue;
      MOE_RETURN_IF_ERROR(MoveInto(JoinPath(target, folder.name), path, name));
      ++moved;
    }
  }
  return moved;
}

}  // namespace moe::coordinator
