// Files, the few ways we use them: read whole, replace atomically, append, map.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moe {

// An open file descriptor that closes itself.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  ~FileDescriptor() { Close(); }
  FileDescriptor(FileDescriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  FileDescriptor& operator=(FileDescriptor&& other) noexcept {
    if (this != &other) {
      Close();
      fd_ = std::exchange(other.fd_, -1);
    }
    return *this;
  }
  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  void Close();
  int Release() { return std::exchange(fd_, -1); }

 private:
  int fd_ = -1;
};

// The whole file. NOT_FOUND where there is none.
absl::StatusOr<std::string> ReadFile(const std::string& path);

// Replaces `path` so that a crash leaves the old content or the new, never a mixture: writes a
// temporary file beside it, syncs it, renames it, syncs the folder.
absl::Status WriteFileAtomically(const std::string& path, const std::string& content);

// The same without the syncs: whole whatever kills the process, but a machine that loses power may
// find the old content, the new, or an empty file. For what is void after that anyway.
absl::Status ReplaceFile(const std::string& path, const std::string& content);

// Writes everything to `fd`, restarting after signals and short writes. `path` is for messages.
absl::Status WriteAll(int fd, const void* data, size_t size, const std::string& path);

// Makes `path` and its parents. OK where it exists already.
absl::Status MakeDirectories(const std::string& path);
// Makes a rename or creation inside `path` durable.
absl::Status SyncDirectory(const std::string& path);
// Removes a file or a whole tree. OK where there is none.
absl::Status RemoveTree(const std::string& path);

bool FileExists(const std::string& path);
absl::StatusOr<uint64_t> FileSize(const std::string& path);
// Names (not paths) of the entries, sorted.
absl::StatusOr<std::vector<std::string>> ListDirectory(const std::string& path);
// "a/b" from "a" and "b"; the second alone where it is absolute.
std::string JoinPath(const std::string& a, const std::string& b);
// Bytes that a process without privileges may still write on the file system of `path`.
absl::StatusOr<uint64_t> FreeSpaceBytes(const std::string& path);

// A read-only memory map of a whole file. Movable; unmaps itself.
class MappedFile {
 public:
  static absl::StatusOr<MappedFile> Open(const std::string& path);
  MappedFile() = default;
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;

  const uint8_t* data() const { return data_; }
  size_t size() const { return size_; }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
  const uint8_t* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace moe
