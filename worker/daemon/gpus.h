// The GPUs of this node that ranks can compute on.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace moe::worker {

struct Gpu {
  int number = 0;    // of `moe-rank --device gpu:N`
  std::string name;  // "NVIDIA H100 80GB HBM3"
  int64_t memory_bytes = 0;
};

// From what `moe-rank --list-gpus` prints. DATA_LOSS where that is something else.
absl::StatusOr<std::vector<Gpu>> ParseGpus(const std::string& json);

// Asks `program`, the path of moe-rank, which alone knows whether its plug-in works with the driver
// here. `output_path` gets its output. Empty, without asking, on a node without a driver; an error
// where there is one and no GPU can be used, with the program's reason.
absl::StatusOr<std::vector<Gpu>> ListGpus(const std::string& program,
                                          const std::string& output_path);

}  // namespace moe::worker
