#include "worker/daemon/gpus.h"

#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>

#include "common/file.h"
#include "common/json.h"
#include "common/status.h"
#include "common/subprocess.h"
#include "worker/daemon/rank_environment.h"

namespace moe::worker {

absl::StatusOr<std::vector<Gpu>> ParseGpus(const std::string& json) {
  constexpr char kWhat[] = "moe-rank --list-gpus";
  MOE_ASSIGN_OR_RETURN(const Json list, ParseJson(json, kWhat));
  if (!list.is_array()) return DataLoss("{} printed {}, not a list", kWhat, json);
  std::vector<Gpu> gpus;
  for (const Json& entry : list) {
    JsonReader reader(entry, kWhat);
    gpus.push_back({.number = static_cast<int>(reader.Int("number")),
                    .name = reader.String("name"),
                    .memory_bytes = reader.Int("memory_bytes")});
    if (!reader.status().ok()) return DataLoss("{}", Message(reader.status()));
  }
  return gpus;
}

absl::StatusOr<std::vector<Gpu>> ListGpus(const std::string& program,
                                          const std::string& output_path) {
  if (!FileExists("/dev/nvidiactl")) return std::vector<Gpu>();
  ::unlink(output_path.c_str());  // the program's output is appended
  MOE_ASSIGN_OR_RETURN(const ProcessIdentity started,
                       StartDetached({.argv = {program, "--list-gpus"},
                                      .environment = RankEnvironment(/*threads=*/1),
                                      .output_path = output_path}));
  int status = 0;
  while (::waitpid(static_cast<pid_t>(started.pid), &status, 0) < 0) {
    if (errno != EINTR) return ErrnoStatus(errno, "cannot wait for " + program + " --list-gpus");
  }
  MOE_ASSIGN_OR_RETURN(const std::string output, ReadFile(output_path));
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) return FailedPrecondition("{}", output);
  return ParseGpus(output);
}

}  // namespace moe::worker
