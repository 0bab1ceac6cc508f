#include "moectl/commands/job_file_option.h"

#include <iterator>

#include "common/file.h"
#include "common/status.h"
#include "moectl/job_file/job_file.h"

namespace moe::moectl {
namespace {

absl::StatusOr<std::string> ReadText(const std::string& file, std::istream& in) {
  if (file == "-") return std::string(std::istreambuf_iterator<char>(in), {});
  auto text = ReadFile(file);
  // A wrong file name is a wrong command line.
  if (!text.ok()) return InvalidArgument("{}", Message(text.status()));
  return text;
}

}  // namespace

std::string JobFileOption::ShownName() const { return file == "-" ? "<stdin>" : file; }

void AddJobFileOption(CLI::App& command, JobFileOption* option) {
  command.add_option("-f,--file", option->file, "The job file; - for standard input")
      ->required()
      ->type_name("FILE");
  command.add_option("--set", option->settings, "Set a parameter of the file; repeatable")
      ->allow_extra_args(false)
      ->type_name("NAME=VALUE");
}

absl::StatusOr<moe::v1::SubmitPipelineRequest> ReadJobFile(const JobFileOption& option,
                                                           const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(const std::string text, ReadText(option.file, context.world.in));
  auto jobs =
      ParseJobFile(text, option.ShownName(),
                   {.settings = option.settings, .home = context.world.environment("HOME")});
  if (!jobs.ok()) {
    return InvalidArgument("{} is refused, nothing was submitted:\n{}", option.ShownName(),
                           Message(jobs.status()));
  }
  return jobs;
}

}  // namespace moe::moectl
