// Looks at every record of a store and at what records say of each other.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "moe/v1/artefact.pb.h"

namespace moe::storage {

// Something that is wrong, and what to do about it.
struct Finding {
  std::string where;  // "jobs/j17"
  std::string problem;
  std::string advice;
};

struct FsckReport {
  uint64_t schema_version = 0;
  uint64_t num_records = 0;
  uint64_t num_findings = 0;
  std::vector<Finding> findings;  // at most kMaxFindings of them
};
inline constexpr size_t kMaxFindings = 1000;

// Changes nothing. `visit_artefact` gets every artefact of the catalogue whose record is good.
// FAILED_PRECONDITION while a coordinator has the store, or where it is of a newer version;
// NOT_FOUND where there is none. A store that is damaged is a report with findings.
absl::StatusOr<FsckReport> Fsck(const std::string& path,
                                const std::function<void(const v1::Artefact&)>& visit_artefact);

}  // namespace moe::storage
