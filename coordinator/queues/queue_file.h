// The queue file (docs/queues.md), read strictly.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "coordinator/queues/queue_tree.h"

namespace moe::coordinator {

// INVALID_ARGUMENT: "queues.yaml:7: queue 'research': limit=4 is below its quota 6; ...", for the
// first problem. `file` is how messages name the file.
absl::StatusOr<QueueTree> ParseQueueFile(const std::string& text, const std::string& file);
// NOT_FOUND where there is no such file.
absl::StatusOr<QueueTree> LoadQueueFile(const std::string& path);

}  // namespace moe::coordinator
