// Measures once what a slot of this machine can do, with the program that computes.
#pragma once

#include <functional>
#include <string>
#include <thread>

#include "absl/status/statusor.h"
#include "absl/synchronization/mutex.h"
#include "moe/v1/cluster_service.pb.h"

namespace moe::worker {

// Runs `moe-rank --probe` on a thread of its own, so that nothing waits for the seconds it takes.
// The result stays in `folder`/speed-THREADS.json; remove that file to have it measured anew.
class SpeedProbe {
 public:
  struct Options {
    std::string program;  // path of moe-rank
    int threads = 1;
    std::string folder;
  };
  // `on_measured` is called on the probe's thread, at most once; a probe that fails is logged.
  SpeedProbe(const Options& options, std::function<void(const v1::DeviceSpeed&)> on_measured);
  // Ends the measurement.
  ~SpeedProbe();

 private:
  void Run();
  absl::StatusOr<v1::DeviceSpeed> Measure();
  // The exit status of the program, which is waited for.
  absl::Status RunProgram(const std::string& output_path);

  const Options options_;
  const std::function<void(const v1::DeviceSpeed&)> on_measured_;

  absl::Mutex mutex_;
  pid_t pid_ ABSL_GUARDED_BY(mutex_) = 0;  // while the program runs
  bool closing_ ABSL_GUARDED_BY(mutex_) = false;

  std::thread thread_;
};

}  // namespace moe::worker
