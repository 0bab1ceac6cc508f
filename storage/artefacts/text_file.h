// Which files are read as text.
#pragma once

#include <string>

#include "absl/status/status.h"

namespace moe::artefacts {

// INVALID_ARGUMENT, with what to do about it, where the name is that of a format with text inside
// that is not read. Does not look into the file.
absl::Status CheckTextFile(const std::string& path);

}  // namespace moe::artefacts
