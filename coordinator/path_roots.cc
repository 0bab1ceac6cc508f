#include "coordinator/path_roots.h"

#include <algorithm>
#include <filesystem>
#include <system_error>

#include "common/status.h"

namespace moe::coordinator {

namespace fs = std::filesystem;

absl::StatusOr<PathRoots> PathRoots::Of(const std::vector<std::string>& roots) {
  PathRoots result;
  for (const std::string& root : roots) {
    std::error_code error;
    const fs::path resolved = fs::canonical(root, error);
    if (error || !fs::is_directory(resolved, error)) {
      return InvalidArgument("--allow-root {} is not a folder{}", root,
                             error ? ": " + error.message() : "");
    }
    result.roots_.push_back(resolved.string());
  }
  return result;
}

absl::Status PathRoots::CheckOne(const std::string& path) const {
  std::error_code error;
  // What does not exist stays as it is written: that it is missing is for others to say.
  const fs::path resolved = fs::weakly_canonical(path, error);
  if (error) return PermissionDenied("cannot resolve {}: {}", path, error.message());
  const auto holds = [&resolved](const std::string& root) {
    const fs::path folder(root);
    return std::mismatch(folder.begin(), folder.end(), resolved.begin(), resolved.end()).first ==
           folder.end();
  };
  if (std::any_of(roots_.begin(), roots_.end(), holds)) return absl::OkStatus();
  return PermissionDenied("{} is {}, outside the folders that jobs may read: {}", path,
                          resolved.string(), fmt::join(roots_, ", "));
}

absl::Status PathRoots::Check(const std::string& path) const {
  if (roots_.empty()) return absl::OkStatus();
  MOE_RETURN_IF_ERROR(CheckOne(path));
  std::error_code error;
  if (!fs::is_directory(path, error)) return absl::OkStatus();
  // Links to folders are checked and not followed, so this ends.
  for (fs::recursive_directory_iterator it(path, error);
       !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    std::error_code ignored;
    if (it->is_symlink(ignored)) MOE_RETURN_IF_ERROR(CheckOne(it->path().string()));
  }
  if (error) return PermissionDenied("cannot look into {}: {}", path, error.message());
  return absl::OkStatus();
}

}  // namespace moe::coordinator
