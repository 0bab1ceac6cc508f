// The real world, as validation asks about it (coordinator/job_spec.h): files are read now, the
// artefacts were looked up before.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "coordinator/job_spec.h"

namespace moe::coordinator {

class FilesFacts final : public SpecFacts {
 public:
  // Artefacts by the reference that a spec uses.
  explicit FilesFacts(std::map<std::string, v1::Artefact> artefacts,
                      std::optional<planner::Machine> largest_slot = std::nullopt)
      : artefacts_(std::move(artefacts)), largest_slot_(std::move(largest_slot)) {}

  absl::StatusOr<ModelFacts> ReadModel(const std::string& path) const override;
  bool HoldsModel(const std::string& path) const override;
  absl::Status CheckReadable(const std::string& path, bool* is_empty) const override;
  const v1::Artefact* FindArtefact(const std::string& reference) const override;
  std::optional<planner::Machine> LargestSlot() const override { return largest_slot_; }

 private:
  const std::map<std::string, v1::Artefact> artefacts_;
  const std::optional<planner::Machine> largest_slot_;
};

}  // namespace moe::coordinator
