#include "common/process_info.h"

#include <cerrno>
#include <sstream>
#include <string>

#include "common/file.h"
#include "common/status.h"

namespace moe {

absl::StatusOr<ProcessIdentity> IdentifyProcess(pid_t pid) {
  const std::string path = fmt::format("/proc/{}/stat", pid);
  auto stat = ReadFile(path);
  if (!stat.ok()) {
    // A process that ends while its file is read gives ESRCH.
    if (FileExists(path)) return stat.status();
    return NotFound("there is no process {}", pid);
  }
  // The second field is the program's name in parentheses and may hold anything, also ") ".
  const size_t name_end = stat->rfind(')');
  if (name_end == std::string::npos) return Internal("{} has no ')': {}", path, *stat);
  std::istringstream fields(stat->substr(name_end + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  ProcessIdentity identity{.pid = pid};
  if (!(fields >> identity.start_time)) return Internal("{} has no field 22: {}", path, *stat);
  return identity;
}

}  // namespace moe
