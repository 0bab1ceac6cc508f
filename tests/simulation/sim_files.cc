#include "tests/simulation/sim_files.h"

#include <algorithm>

#include "common/crc32c.h"
#include "common/status.h"
#include "coordinator/outputs.h"

namespace moe::simulation {

using coordinator::IsInside;

uint32_t SimFiles::Write(const std::string& path, bool damaged) {
  const uint32_t crc32c = Crc32c(path.data(), path.size());
  folders_[path] = {crc32c, damaged};
  return crc32c;
}

bool SimFiles::IsWhole(const std::string& path, uint32_t manifest_crc32c) const {
  const auto it = folders_.find(path);
  return it != folders_.end() && !it->second.damaged && it->second.crc32c == manifest_crc32c;
}

absl::Status SimFiles::Check(const v1::ArtefactWritten& written) const {
  if (IsWhole(written.path(), written.manifest_crc32c())) return absl::OkStatus();
  if (world_->Has(PlantedBug::kAnyArtefactAccepted)) return absl::OkStatus();
  return DataLoss("{} is not what its manifest says", written.path());
}

absl::StatusOr<std::vector<std::string>> SimFiles::List(const std::string& folder) const {
  std::set<std::string> names;
  for (const auto& [path, unused] : folders_) {
    if (!IsInside(path, folder) || path == folder) continue;
    const std::string rest = path.substr(folder.size() + 1);
    names.insert(rest.substr(0, rest.find('/')));
  }
  return std::vector<std::string>(names.begin(), names.end());
}

void SimFiles::Remove(const std::string& folder) const {
  std::erase_if(folders_, [&](const auto& entry) { return IsInside(entry.first, folder); });
}

void SimFiles::RemoveOthers(const std::string& attempt_dir,
                            const std::set<std::string>& keep) const {
  std::erase_if(folders_, [&](const auto& entry) {
    if (!IsInside(entry.first, attempt_dir)) return false;
    if (world_->Has(PlantedBug::kCommittedFolderRemoved)) return true;
    return std::none_of(keep.begin(), keep.end(), [&](const std::string& kept) {
      return IsInside(entry.first, kept) || IsInside(kept, entry.first);
    });
  });
}

}  // namespace moe::simulation
