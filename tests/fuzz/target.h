// One libFuzzer target per reader of files from outside. A malformed file must end in an error with
// place and reason; anything else (a crash, a sanitizer's finding, a failed check) is a bug.
//
// Each target is built twice: with libFuzzer by tests/fuzz/run.sh, which searches, and with
// replay_main.cc into the ordinary tests, which reads the committed corpus.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <cstddef>
#include <cstdint>
#include <string>

#include "absl/status/status.h"
#include "common/check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace moe::fuzz {

// The input as a file, for readers that map one.
class MemoryFile {
 public:
  MemoryFile(const uint8_t* data, size_t size) : descriptor_(::memfd_create("fuzz", 0)) {
    MOE_CHECK(descriptor_ >= 0);
    MOE_CHECK(::write(descriptor_, data, size) == static_cast<ssize_t>(size));
  }
  ~MemoryFile() { ::close(descriptor_); }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  const int descriptor_;
};

// A refusal without a reason helps nobody.
inline void ExpectReason(const absl::Status& status) {
  MOE_CHECK(status.ok() || status.message().size() > 10);
}

}  // namespace moe::fuzz
