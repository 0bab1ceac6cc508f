// The real world, as validation asks about it (coordinator/job_spec.h): files are read now, the
// artefacts were looked up before.
#pragma once

#include <map>
#include <string>

#include "coordinator/job_spec.h"

namespace moe::coordinator {

class FilesFacts final : public SpecFacts {
 public:
  // Artefacts by the reference that a spec uses.
  explicit FilesFacts(std::map<std::string, v1::Artefact> artefacts)
      : artefacts_(std::move(artefacts)) {}

  absl::StatusOr<ModelFacts> ReadModel(const std::string& path) const override;
  bool HoldsModel(const std::string& path) const override;
  absl::Status CheckReadable(const std::string& path, bool* is_empty) const override;
  const v1::Artefact* FindArtefact(const std::string& reference) const override;

 private:
  const std::map<std::string, v1::Artefact> artefacts_;
};

}  // namespace moe::coordinator
