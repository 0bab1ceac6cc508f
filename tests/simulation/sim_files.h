// The file system that all machines share: the folders of artefacts. Durable; what is written in it
// may be incomplete all the same.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "coordinator/artefact_files.h"
#include "tests/simulation/world.h"

namespace moe::simulation {

class SimFiles final : public coordinator::ArtefactFiles {
 public:
  explicit SimFiles(World* world) : world_(world) {}

  // A rank writes an artefact; `damaged`: not all of it is there. Its manifest's CRC-32C.
  uint32_t Write(const std::string& path, bool damaged);
  // Whether the artefact is there, whole, and the one with this manifest.
  bool IsWhole(const std::string& path, uint32_t manifest_crc32c) const;

  // coordinator::ArtefactFiles
  absl::Status Check(const v1::ArtefactWritten& written) const override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) const override;
  void Remove(const std::string& folder) const override;
  void RemoveOthers(const std::string& attempt_dir,
                    const std::set<std::string>& keep) const override;

 private:
  struct Folder {
    uint32_t crc32c = 0;
    bool damaged = false;
  };
  World* const world_;
  mutable std::map<std::string, Folder> folders_;  // by full path; the interface is const
};

}  // namespace moe::simulation
