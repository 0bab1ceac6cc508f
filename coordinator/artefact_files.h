// The coordinator's dealings with artefact folders: slow, so done off the loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "moe/v1/report.pb.h"

namespace moe::coordinator {

// Runs file work, and never on the caller's thread.
class FileWork {
 public:
  virtual ~FileWork() = default;
  virtual void Post(std::function<void()> work) = 0;
};

// What the supervisor needs of the artefact root.
class ArtefactFiles {
 public:
  virtual ~ArtefactFiles() = default;
  // That a folder is the artefact that was reported: its manifest has the CRC-32C, and every file
  // is there with its size.
  virtual absl::Status Check(const v1::ArtefactWritten& written) const = 0;
  // Names of what is in a folder; empty where it does not exist.
  virtual absl::StatusOr<std::vector<std::string>> List(const std::string& folder) const = 0;
  // Removes a folder, or makes a note in the log why it could not.
  virtual void Remove(const std::string& folder) const = 0;
  // Removes everything under an attempt's folder that is not one of `keep` (full paths).
  virtual void RemoveOthers(const std::string& attempt_dir,
                            const std::set<std::string>& keep) const = 0;
};

// That many threads with one queue: with one, work is done in the order given; with more, slow work
// holds up nothing else. Stopping finishes what was posted.
std::unique_ptr<FileWork> MakeFileWork(int threads);
// The real artefact root.
std::unique_ptr<ArtefactFiles> MakeArtefactFiles();

}  // namespace moe::coordinator
