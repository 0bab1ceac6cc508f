#include "storage/artefacts/manifest.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <filesystem>
#include <limits>
#include <system_error>
#include <utility>

#include "common/crc32c.h"
#include "common/file.h"
#include "common/status.h"
#include "storage/artefacts/direct_reader.h"

namespace moe::artefacts {
namespace {

namespace fs = std::filesystem;

constexpr char kFileName[] = "manifest.json";
constexpr char kFormat[] = "moe-artefact";
constexpr int64_t kVersion = 1;
constexpr std::array kKinds = {"dataset", "model", "checkpoint", "report"};

bool IsKnownKind(const std::string& kind) {
  return std::find(kKinds.begin(), kKinds.end(), kind) != kKinds.end();
}

// That `path` stays inside the folder whatever it is joined to.
bool IsPlainRelative(const std::string& path) {
  const fs::path parsed(path);
  return !path.empty() && parsed.is_relative() && parsed.lexically_normal() == parsed &&
         *parsed.begin() != ".." && *parsed.begin() != "." && parsed.has_filename();
}

// Every regular file below `folder` but the manifest, as relative paths, sorted; and the folders,
// to sync them.
struct FolderContent {
  std::vector<std::string> files;
  std::vector<std::string> folders;
};
absl::StatusOr<FolderContent> ListTree(const std::string& folder) {
  FolderContent content;
  std::error_code error;
  fs::recursive_directory_iterator it(folder, error);
  for (; !error && it != fs::recursive_directory_iterator(); it.increment(error)) {
    const std::string relative = it->path().lexically_relative(folder).string();
    const fs::file_status status = it->symlink_status(error);
    if (error) break;
    if (fs::is_directory(status)) {
      content.folders.push_back(it->path().string());
    } else if (!fs::is_regular_file(status)) {
      return InvalidArgument("{} is neither file nor folder; an artefact holds nothing else",
                             it->path().string());
    } else if (relative != kFileName) {
      content.files.push_back(relative);
    }
  }
  if (error) return ErrnoStatus(error.value(), "cannot list " + folder);
  std::sort(content.files.begin(), content.files.end());
  return content;
}

absl::Status CheckFields(const Manifest& manifest, const std::string& path) {
  if (!IsKnownKind(manifest.kind)) {
    return InvalidArgument("{}: kind '{}'; use dataset, model, checkpoint or report", path,
                           manifest.kind);
  }
  if (!manifest.metadata.is_object()) {
    return InvalidArgument("{}: metadata is not an object", path);
  }
  for (size_t i = 0; i < manifest.files.size(); ++i) {
    const std::string& file = manifest.files[i].path;
    if (!IsPlainRelative(file) || file == kFileName) {
      return InvalidArgument("{}: file path '{}' is not one inside the folder", path, file);
    }
    if (i > 0 && manifest.files[i - 1].path >= file) {
      return InvalidArgument("{}: files are not sorted, or {} occurs twice", path, file);
    }
  }
  return absl::OkStatus();
}

Json ToJson(const Manifest& manifest) {
  Json files = Json::array();
  for (const ManifestFile& file : manifest.files) {
    files.push_back(
        {{"path", file.path}, {"size_bytes", file.size_bytes}, {"crc32c", file.crc32c}});
  }
  return {
      {"format", kFormat},         {"version", kVersion},           {"kind", manifest.kind},
      {"name", manifest.name},     {"job_id", manifest.job_id},     {"attempt", manifest.attempt},
      {"inputs", manifest.inputs}, {"metadata", manifest.metadata}, {"files", std::move(files)}};
}

absl::StatusOr<Manifest> FromJson(const Json& json, const std::string& path) {
  JsonReader reader(json, path);
  const std::string format = reader.String("format");
  const int64_t version = reader.Int("version");
  MOE_RETURN_IF_ERROR(reader.status());
  if (format != kFormat || version != kVersion) {
    return InvalidArgument("{}: format '{}' version {}; this program reads '{}' version {}", path,
                           format, version, kFormat, kVersion);
  }
  Manifest manifest;
  manifest.kind = reader.String("kind");
  manifest.name = reader.String("name");
  manifest.job_id = reader.String("job_id");
  manifest.inputs = reader.Strings("inputs");
  manifest.metadata = reader.Object("metadata");
  const int64_t attempt = reader.Int("attempt");
  const Json& files = reader.Array("files");
  MOE_RETURN_IF_ERROR(reader.status());
  if (attempt < 0 || attempt > std::numeric_limits<int32_t>::max()) {
    return InvalidArgument("{}: attempt {} is out of range", path, attempt);
  }
  manifest.attempt = static_cast<int32_t>(attempt);
  for (const Json& item : files) {
    JsonReader file_reader(item, path + ": files");
    ManifestFile file;
    file.path = file_reader.String("path");
    file.size_bytes = file_reader.Uint("size_bytes");
    const uint64_t crc32c = file_reader.Uint("crc32c");
    MOE_RETURN_IF_ERROR(file_reader.status());
    if (crc32c > std::numeric_limits<uint32_t>::max()) {
      return InvalidArgument("{}: {}: crc32c {} has more than 32 bits", path, file.path, crc32c);
    }
    file.crc32c = static_cast<uint32_t>(crc32c);
    manifest.files.push_back(std::move(file));
  }
  MOE_RETURN_IF_ERROR(CheckFields(manifest, path));
  return manifest;
}

absl::Status CheckSize(const std::string& path, uint64_t size_bytes, const ManifestFile& expected) {
  if (size_bytes == expected.size_bytes) return absl::OkStatus();
  return DataLoss("{} has {} bytes, its manifest says {}", path, size_bytes, expected.size_bytes);
}

}  // namespace

uint64_t Manifest::TotalBytes() const {
  uint64_t total = 0;
  for (const ManifestFile& file : files) total += file.size_bytes;
  return total;
}

absl::StatusOr<ManifestFile> DescribeFile(const std::string& folder, const std::string& path) {
  MOE_ASSIGN_OR_RETURN(const FileContent content, ReadDirect(JoinPath(folder, path)));
  return ManifestFile{.path = path, .size_bytes = content.size_bytes, .crc32c = content.crc32c};
}

absl::StatusOr<WrittenManifest> WriteManifest(const std::string& folder, Manifest manifest) {
  const std::string path = JoinPath(folder, kFileName);
  MOE_ASSIGN_OR_RETURN(const FolderContent content, ListTree(folder));
  if (manifest.files.empty()) {
    for (const std::string& file : content.files) {
      MOE_ASSIGN_OR_RETURN(ManifestFile described, DescribeFile(folder, file));
      manifest.files.push_back(std::move(described));
    }
  }
  std::sort(manifest.files.begin(), manifest.files.end(),
            [](const ManifestFile& a, const ManifestFile& b) { return a.path < b.path; });
  MOE_RETURN_IF_ERROR(CheckFields(manifest, path));
  MOE_RETURN_IF_ERROR(CheckSizes(folder, manifest));
  for (const std::string& subfolder : content.folders) {
    MOE_RETURN_IF_ERROR(SyncDirectory(subfolder));
  }
  // The files' names must be durable before the manifest that promises them.
  MOE_RETURN_IF_ERROR(SyncDirectory(folder));
  const std::string text = ToJson(manifest).dump(2) + "\n";
  MOE_RETURN_IF_ERROR(WriteFileAtomically(path, text));
  return WrittenManifest{.crc32c = Crc32c(text.data(), text.size()),
                         .size_bytes = manifest.TotalBytes()};
}

absl::StatusOr<Manifest> ReadManifest(const std::string& folder, const uint32_t* expected_crc32c) {
  const std::string path = JoinPath(folder, kFileName);
  const absl::StatusOr<std::string> text = ReadFile(path);
  if (!text.ok()) return Annotate(text.status(), folder + " is not a complete artefact");
  const uint32_t crc32c = Crc32c(text->data(), text->size());
  if (expected_crc32c != nullptr && crc32c != *expected_crc32c) {
    return DataLoss("{} has the CRC-32C {:#010x}, the catalogue says {:#010x}", path, crc32c,
                    *expected_crc32c);
  }
  MOE_ASSIGN_OR_RETURN(const Json json, ParseJson(*text, path));
  return FromJson(json, path);
}

absl::Status CheckSizes(const std::string& folder, const Manifest& manifest) {
  for (const ManifestFile& file : manifest.files) {
    const std::string path = JoinPath(folder, file.path);
    MOE_ASSIGN_OR_RETURN(const uint64_t size_bytes, FileSize(path));
    MOE_RETURN_IF_ERROR(CheckSize(path, size_bytes, file));
  }
  return absl::OkStatus();
}

absl::Status VerifyFile(const std::string& folder, const ManifestFile& file,
                        const std::vector<Destination>& destinations) {
  const std::string path = JoinPath(folder, file.path);
  MOE_ASSIGN_OR_RETURN(const FileContent actual, ReadDirect(path, destinations));
  MOE_RETURN_IF_ERROR(CheckSize(path, actual.size_bytes, file));
  if (actual.crc32c != file.crc32c) {
    return DataLoss("{} has the CRC-32C {:#010x}, its manifest says {:#010x}", path, actual.crc32c,
                    file.crc32c);
  }
  return absl::OkStatus();
}

absl::Status VerifyFiles(const std::string& folder, const Manifest& manifest) {
  for (const ManifestFile& file : manifest.files) {
    MOE_RETURN_IF_ERROR(VerifyFile(folder, file));
  }
  return absl::OkStatus();
}

}  // namespace moe::artefacts
