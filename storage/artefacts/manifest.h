// manifest.json: what makes a folder an artefact (docs/formats/artefact.md).
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "common/json.h"
#include "storage/artefacts/direct_reader.h"

namespace moe::artefacts {

struct ManifestFile {
  std::string path;  // relative to the artefact's folder
  uint64_t size_bytes = 0;
  uint32_t crc32c = 0;
};

struct Manifest {
  std::string kind;  // "dataset", "model", "checkpoint", "report"
  std::string name;
  std::string job_id;
  int32_t attempt = 0;
  std::vector<std::string> inputs;
  Json metadata = Json::object();
  std::vector<ManifestFile> files;

  uint64_t TotalBytes() const;
};

struct WrittenManifest {
  uint32_t crc32c = 0;      // of manifest.json itself
  uint64_t size_bytes = 0;  // of all files, manifest.json not counted
};

// Computes size and CRC-32C of one file by reading it (past the page cache where it can).
absl::StatusOr<ManifestFile> DescribeFile(const std::string& folder, const std::string& path);

// Writes `folder`/manifest.json durably; the folder becomes an artefact with this. `manifest.files`
// is filled with every file in the folder where it is empty. Every file must be synced already.
absl::StatusOr<WrittenManifest> WriteManifest(const std::string& folder, Manifest manifest);

// Reads the manifest; DATA_LOSS where its CRC-32C is not `expected_crc32c` (skip with nullptr).
absl::StatusOr<Manifest> ReadManifest(const std::string& folder, const uint32_t* expected_crc32c);

// That all files exist with their sizes: cheap, for the coordinator.
absl::Status CheckSizes(const std::string& folder, const Manifest& manifest);
// That one file has its CRC-32C; DATA_LOSS names file and both values. What is read for it goes to
// `destinations`.
absl::Status VerifyFile(const std::string& folder, const ManifestFile& file,
                        const std::vector<Destination>& destinations = {});
// That all have.
absl::Status VerifyFiles(const std::string& folder, const Manifest& manifest);

}  // namespace moe::artefacts
