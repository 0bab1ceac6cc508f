// The real world, as validation asks about it (coordinator/job_spec.h): files are read now, the
// artefacts were looked up before.
#pragma once

#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>

#include "coordinator/job_spec.h"
#include "coordinator/model_facts_cache.h"
#include "coordinator/path_roots.h"

namespace moe::coordinator {

class FilesFacts final : public SpecFacts {
 public:
  // What was looked up before.
  struct Known {
    std::map<std::string, v1::Artefact> artefacts;  // by the reference that a spec uses
    std::set<std::string> job_ids;                  // of jobs that specs name and that exist
    QueueTree queues;
    const PathRoots* roots = nullptr;  // where files may be
    ModelFactsCache* models = nullptr;
    std::optional<planner::Machine> largest_slot = std::nullopt;
  };
  explicit FilesFacts(Known known) : known_(std::move(known)) {}

  absl::StatusOr<ModelFacts> ReadModel(const std::string& path) const override;
  bool HoldsModel(const std::string& path) const override;
  absl::Status CheckReadable(const std::string& path, bool* is_empty) const override;
  const v1::Artefact* FindArtefact(const std::string& reference) const override;
  std::optional<planner::Machine> LargestSlot() const override { return known_.largest_slot; }
  const QueueTree& queues() const override { return known_.queues; }
  bool HasJob(const std::string& job_id) const override { return known_.job_ids.contains(job_id); }

 private:
  const Known known_;
};

}  // namespace moe::coordinator
