// The artefacts that exist. Belongs to the loop's thread (coordinator/turn.h).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/turn.h"
#include "moe/v1/artefact_service.pb.h"
#include "moe/v1/record.pb.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

class Catalog {
 public:
  explicit Catalog(storage::Store* store) : store_(store) {}

  // Reads everything from the store. Once, before anything else.
  absl::Status Load();

  // "name" for the newest version, or "name:version"; nullptr where there is none. Valid until the
  // next change of the catalogue.
  const v1::Artefact* Find(const std::string& reference) const;
  // What a job made and still exists, oldest first.
  std::vector<const v1::Artefact*> MadeBy(const std::string& job_id) const;
  // Newest first; `before_revision` is where the page before ended.
  v1::ListArtefactsResponse List(const v1::ListArtefactsRequest& request, int page_size,
                                 int64_t before_revision) const;

  // Adds the next version of `artefact.name()` under `revision`.
  const v1::Artefact& Add(Turn& turn, v1::Artefact artefact, int64_t revision);
  void Remove(Turn& turn, const std::string& name, int32_t version);

 private:
  using Versions = std::map<int32_t, v1::ArtefactRecord>;

  void Index(const v1::ArtefactRecord& record);

  storage::Store* const store_;
  std::map<std::string, Versions> by_name_;
  std::map<std::string, int32_t> last_version_;  // of names, also when it is removed
  std::map<int64_t, const v1::ArtefactRecord*> by_revision_;
  // By the job that made it, then by revision.
  std::map<std::pair<std::string, int64_t>, const v1::ArtefactRecord*> by_job_;
};

}  // namespace moe::coordinator
