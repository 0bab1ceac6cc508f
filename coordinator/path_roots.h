// Which paths jobs may name: those below a few roots, as far as the file system really leads there.
#pragma once

#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moe::coordinator {

class PathRoots {
 public:
  // Every path.
  PathRoots() = default;
  // Only what is below one of `roots`, which must be folders. None: every path.
  static absl::StatusOr<PathRoots> Of(const std::vector<std::string>& roots);

  // PERMISSION_DENIED where `path`, with every link and every ".." resolved, is not below a root;
  // where it is a folder, also where a link in it leads out.
  absl::Status Check(const std::string& path) const;

 private:
  // Resolved; PERMISSION_DENIED where it is outside.
  absl::Status CheckOne(const std::string& path) const;

  std::vector<std::string> roots_;  // resolved
};

}  // namespace moe::coordinator
