#include "worker/daemon/speed_probe.h"

#include <google/protobuf/util/json_util.h>
#include <spdlog/spdlog.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <utility>

#include "common/file.h"
#include "common/status.h"
#include "common/subprocess.h"
#include "worker/daemon/rank_environment.h"

namespace moe::worker {
namespace {

absl::StatusOr<v1::DeviceSpeed> ParseSpeed(const std::string& json, const std::string& path) {
  v1::DeviceSpeed speed;
  const auto status = google::protobuf::util::JsonStringToMessage(json, &speed);
  if (!status.ok()) return DataLoss("{}: {}", path, std::string(status.message()));
  return speed;
}

}  // namespace

SpeedProbe::SpeedProbe(const Options& options,
                       std::function<void(const v1::DeviceSpeed&)> on_measured)
    : options_(options), on_measured_(std::move(on_measured)), thread_([this] { Run(); }) {}

SpeedProbe::~SpeedProbe() {
  {
    absl::MutexLock lock(&mutex_);
    closing_ = true;
    // Not waited for yet, so the id is the program's own.
    if (pid_ > 0) ::kill(pid_, SIGKILL);
  }
  thread_.join();
}

void SpeedProbe::Run() {
  const absl::StatusOr<v1::DeviceSpeed> speed = Measure();
  if (speed.ok()) return on_measured_(*speed);
  absl::MutexLock lock(&mutex_);
  if (!closing_) spdlog::warn("what a slot can do is not known: {}", Message(speed.status()));
}

absl::StatusOr<v1::DeviceSpeed> SpeedProbe::Measure() {
  const std::string path = fmt::format("{}/speed-{}.json", options_.folder, options_.threads);
  if (FileExists(path)) {
    MOE_ASSIGN_OR_RETURN(const std::string known, ReadFile(path));
    return ParseSpeed(known, path);
  }
  const std::string output_path = path + ".new";
  ::unlink(output_path.c_str());  // the program's output is appended
  MOE_RETURN_IF_ERROR(RunProgram(output_path));
  MOE_ASSIGN_OR_RETURN(const std::string measured, ReadFile(output_path));
  MOE_ASSIGN_OR_RETURN(const v1::DeviceSpeed speed, ParseSpeed(measured, output_path));
  if (::rename(output_path.c_str(), path.c_str()) != 0) {
    return ErrnoStatus(errno, "cannot rename " + output_path);
  }
  return speed;
}

absl::Status SpeedProbe::RunProgram(const std::string& output_path) {
  const DetachedProgram program = {
      .argv = {options_.program, "--probe", "--threads", std::to_string(options_.threads)},
      .environment = RankEnvironment(options_.threads),
      .output_path = output_path};
  pid_t pid = 0;
  {
    absl::MutexLock lock(&mutex_);
    if (closing_) return Cancelled("the worker ends");
    MOE_ASSIGN_OR_RETURN(const ProcessIdentity started, StartDetached(program));
    pid = pid_ = started.pid;
  }
  // Watched without being reaped, so that the destructor never signals a stranger.
  siginfo_t info = {};
  while (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) != 0) {
    if (errno != EINTR) return ErrnoStatus(errno, "cannot wait for the probe");
  }
  int status = 0;
  absl::MutexLock lock(&mutex_);
  pid_ = 0;
  if (::waitpid(pid, &status, 0) != pid) return ErrnoStatus(errno, "cannot wait for the probe");
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0) return absl::OkStatus();
  return Internal("{} --probe ended with status {}; see {}", options_.program, status, output_path);
}

}  // namespace moe::worker
