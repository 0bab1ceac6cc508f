// The job file of a command line: "-f FILE" and "--set NAME=VALUE", as job submit, job plan and
// plan take them.
#pragma once

#include <CLI/App.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "moe/v1/job_service.pb.h"
#include "moectl/command_context.h"

namespace moe::moectl {

struct JobFileOption {
  // "-" is standard input.
  std::string file;
  // "name=value" each.
  std::vector<std::string> settings;

  // What messages call the file.
  std::string ShownName() const;
};

void AddJobFileOption(CLI::App& command, JobFileOption* option);

// The file's jobs. INVALID_ARGUMENT with every problem of the file, or that it cannot be read.
absl::StatusOr<moe::v1::SubmitPipelineRequest> ReadJobFile(const JobFileOption& option,
                                                           const CommandContext& context);

}  // namespace moe::moectl
