#include "coordinator/orphans.h"

#include <cstdint>
#include <limits>
#include <regex>
#include <set>
#include <vector>

#include "common/file.h"
#include "common/status.h"
#include "coordinator/outputs.h"

namespace moe::coordinator {

absl::Status RemoveOrphans(const std::string& artefact_root, const AttemptMap& attempts,
                           const Catalog& catalog, const ArtefactFiles* files,
                           FileWork* file_work) {
  std::set<std::string> catalogued;
  const v1::ListArtefactsResponse all =
      catalog.List({}, std::numeric_limits<int>::max(), std::numeric_limits<int64_t>::max());
  for (const v1::Artefact& artefact : all.artefacts()) catalogued.insert(artefact.path());
  static const std::regex kAttemptFolder("j[0-9]+\\.[0-9]+");
  for (const char* kind : {"dataset", "model", "checkpoint", "report"}) {
    const std::string folder = JoinPath(artefact_root, kind);
    if (!FileExists(folder)) continue;
    MOE_ASSIGN_OR_RETURN(const std::vector<std::string> names, ListDirectory(folder));
    for (const std::string& name : names) {
      if (!std::regex_match(name, kAttemptFolder)) continue;
      const size_t dot = name.find('.');
      const AttemptId id = {*ParseJobId(name.substr(0, dot)), std::stoi(name.substr(dot + 1))};
      if (attempts.contains(id)) continue;
      const std::string path = JoinPath(folder, name);
      std::set<std::string> keep;
      for (auto it = catalogued.lower_bound(path); it != catalogued.end() && IsInside(*it, path);
           ++it) {
        keep.insert(*it);
      }
      file_work->Post([files, path, keep] { files->RemoveOthers(path, keep); });
    }
  }
  return absl::OkStatus();
}

}  // namespace moe::coordinator
