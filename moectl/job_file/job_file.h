// Job files: a pipeline written in YAML (docs/job-file.md).
//
//   pipeline: smollm2-moe
//   parameters: {corpus: ~/corpus}
//   jobs:
//     - name: corpus
//       prepare: {...}
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "moe/v1/job_service.pb.h"

namespace moe::moectl {

struct JobFileOptions {
  // "name=value", as given with --set.
  std::vector<std::string> settings;
  // What "~/" stands for; empty where HOME is not set.
  std::string home;
};

// Reads `text`. Fills pipeline_name and jobs of the request, nothing else. INVALID_ARGUMENT with
// every problem of the file, one a line, as "`file`:line:column: message".
absl::StatusOr<moe::v1::SubmitPipelineRequest> ParseJobFile(const std::string& text,
                                                            const std::string& file,
                                                            const JobFileOptions& options);

}  // namespace moe::moectl
