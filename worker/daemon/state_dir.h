// The folder in which a worker keeps its runs: one daemon at a time.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/file.h"

namespace moe::worker {

// Holds the folder for as long as it lives; the kernel lets go of it when the process ends.
class StateDir {
 public:
  // Makes the folder where there is none. FAILED_PRECONDITION naming the holder's process id where
  // another daemon has it.
  static absl::StatusOr<StateDir> Lock(const std::string& path);

  // Absolute.
  const std::string& path() const { return path_; }
  std::string runs_path() const { return path_ + "/runs"; }

 private:
  StateDir(std::string path, FileDescriptor lock)
      : path_(std::move(path)), lock_(std::move(lock)) {}

  std::string path_;
  FileDescriptor lock_;
};

}  // namespace moe::worker
