// The commands, each of which adds itself to the command tree.
//
// Parsing a command line only sets CommandContext::run; nothing happens before all of it has been
// understood.
#pragma once

#include <CLI/App.hpp>
#include <cstddef>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "moectl/command_context.h"

namespace moe::moectl {

// moectl job ...
void AddJobSubmit(CLI::App& job, CommandContext& context);
void AddJobPlan(CLI::App& job, CommandContext& context);
void AddJobList(CLI::App& job, CommandContext& context);
void AddJobDescribe(CLI::App& job, CommandContext& context);
void AddJobWatch(CLI::App& job, CommandContext& context);
void AddJobWait(CLI::App& job, CommandContext& context);
void AddJobLogs(CLI::App& job, CommandContext& context);
void AddJobContinue(CLI::App& job, CommandContext& context);
void AddJobCancel(CLI::App& job, CommandContext& context);
void AddJobHold(CLI::App& job, CommandContext& context);
void AddJobEvents(CLI::App& job, CommandContext& context);
void AddJobSteps(CLI::App& job, CommandContext& context);

// moectl NOUN ...
void AddArtefactCommands(CLI::App& root, CommandContext& context);
void AddWorkerCommands(CLI::App& root, CommandContext& context);
void AddQueueCommands(CLI::App& root, CommandContext& context);
void AddPlanCommand(CLI::App& root, CommandContext& context);
void AddGoodputCommand(CLI::App& root, CommandContext& context);
void AddSamplerCommands(CLI::App& root, CommandContext& context);
void AddConfigCommands(CLI::App& root, CommandContext& context);
void AddCertificateCommands(CLI::App& root, CommandContext& context);
void AddTokenCommands(CLI::App& root, CommandContext& context);
void AddAuditCommands(CLI::App& root, CommandContext& context);
void AddVersionCommand(CLI::App& root, CommandContext& context);
void AddCompletionCommand(CLI::App& root, CommandContext& context);

// "-o", with those of `forms` that the command knows; the first is the default.
void AddOutputOption(CLI::App& command, std::string* value, std::vector<std::string> forms);

// "--if-etag", for changes of a job.
void AddEtagOption(CLI::App& command, std::string* etag);
// An etag is of one job.
absl::Status CheckEtagOfOne(const std::string& etag, size_t jobs);

// Names one wish of a user: a version 4 UUID.
std::string MakeRequestId();

// What a user pasted: "j17" from "job/j17".
std::string WithoutNoun(const std::string& name);
std::vector<std::string> WithoutNouns(const std::vector<std::string>& names);

}  // namespace moe::moectl
