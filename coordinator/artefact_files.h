// The coordinator's dealings with artefact folders: slow, so done off the loop's thread.
#pragma once

#include <functional>
#include <memory>
#include <set>
#include <string>

#include "absl/status/status.h"
#include "moe/v1/report.pb.h"

namespace moe::coordinator {

// Runs file work one piece after another, in the order given, and never on the caller's thread.
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
  // Removes a folder, or makes a note in the log why it could not.
  virtual void Remove(const std::string& folder) const = 0;
  // Removes everything under an attempt's folder that is not one of `keep` (full paths).
  virtual void RemoveOthers(const std::string& attempt_dir,
                            const std::set<std::string>& keep) const = 0;
};

// One thread and its queue. Stopping finishes what was posted.
std::unique_ptr<FileWork> MakeFileWorkThread();
// The real artefact root.
std::unique_ptr<ArtefactFiles> MakeArtefactFiles();

}  // namespace moe::coordinator
