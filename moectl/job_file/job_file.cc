#include "moectl/job_file/job_file.h"

#include <fmt/format.h>
#include <yaml-cpp/yaml.h>

#include <map>

#include "common/nearest.h"
#include "common/status.h"
#include "moectl/job_file/message_reader.h"
#include "moectl/job_file/parameters.h"
#include "moectl/job_file/problems.h"

namespace moe::moectl {
namespace {

using moe::v1::SubmitPipelineRequest;

// The three sections of a file; undefined where missing.
struct Sections {
  YAML::Node pipeline{YAML::NodeType::Undefined};
  YAML::Node parameters{YAML::NodeType::Undefined};
  YAML::Node jobs{YAML::NodeType::Undefined};
};

Sections ReadSections(const YAML::Node& root, Problems* problems) {
  Sections sections;
  std::map<std::string, int> line_of_key;
  for (const auto& entry : root) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
    const int line = entry.first.Mark().line + 1;
    if (const auto [first, is_new] = line_of_key.emplace(key, line); !is_new) {
      problems->Add(entry.first.Mark(),
                    fmt::format("key '{}' given twice, first in line {}", key, first->second));
    } else if (key == "pipeline") {
      sections.pipeline.reset(entry.second);
    } else if (key == "parameters") {
      sections.parameters.reset(entry.second);
    } else if (key == "jobs") {
      sections.jobs.reset(entry.second);
    } else {
      const std::string nearest = Nearest(key, {"pipeline", "parameters", "jobs"});
      problems->Add(
          entry.first.Mark(),
          nearest.empty()
              ? fmt::format("unknown key '{}'; known are: pipeline, parameters, jobs", key)
              : fmt::format("unknown key '{}'; did you mean '{}'?", key, nearest));
    }
  }
  return sections;
}

// YAML reads the braces of ${NAME} itself where it stands unquoted inside { }.
std::string QuotingHint(const std::string& text, int line) {
  size_t begin = 0;
  for (; line > 0 && begin != std::string::npos; --line) {
    begin = text.find('\n', begin);
    if (begin != std::string::npos) ++begin;
  }
  if (begin == std::string::npos) return "";
  const std::string bad_line = text.substr(begin, text.find('\n', begin) - begin);
  if (bad_line.find("${") == std::string::npos) return "";
  return "; inside { } put a value with ${NAME} in quotes";
}

SubmitPipelineRequest ReadRoot(const YAML::Node& root, const JobFileOptions& options,
                               Problems* problems) {
  SubmitPipelineRequest request;
  if (!root.IsMap()) {
    problems->Add(root.Mark(), "a job file is a mapping with the keys pipeline, parameters, jobs");
    return request;
  }
  const Sections sections = ReadSections(root, problems);
  const Parameters parameters = Parameters::Read(sections.parameters, options.settings, problems);
  const ReadContext context{parameters, options.home, problems};

  if (!sections.pipeline.IsDefined()) {
    problems->Add(root.Mark(), "key 'pipeline' is missing: give the pipeline a name");
  } else if (!sections.pipeline.IsScalar()) {
    problems->Add(sections.pipeline.Mark(), "pipeline: expected a name");
  } else {
    request.set_pipeline_name(
        parameters.Substitute(sections.pipeline.Scalar(), sections.pipeline.Mark(), problems));
  }

  if (!sections.jobs.IsDefined()) {
    problems->Add(root.Mark(), "key 'jobs' is missing: list at least one job");
  } else if (!sections.jobs.IsSequence() || sections.jobs.size() == 0) {
    problems->Add(sections.jobs.Mark(), "jobs: expected a list of at least one job");
  } else {
    for (size_t i = 0; i < sections.jobs.size(); ++i) {
      ReadMessage(sections.jobs[i], fmt::format("jobs[{}]", i), context, request.add_jobs());
    }
  }
  return request;
}

}  // namespace

absl::StatusOr<SubmitPipelineRequest> ParseJobFile(const std::string& text, const std::string& file,
                                                   const JobFileOptions& options) {
  Problems problems(file);
  SubmitPipelineRequest request;
  try {
    const std::vector<YAML::Node> documents = YAML::LoadAll(text);
    if (documents.empty()) return InvalidArgument("{}: the file is empty", file);
    if (documents.size() > 1) {
      problems.Add(documents[1].Mark(), "a second document: one file holds one pipeline");
    }
    request = ReadRoot(documents[0], options, &problems);
  } catch (const YAML::Exception& error) {
    // yaml-cpp reports what it cannot parse by exceptions only.
    problems.Add(error.mark, error.msg + QuotingHint(text, error.mark.line));
  }
  if (!problems.empty()) return InvalidArgument("{}", problems.ToString());
  return request;
}

}  // namespace moe::moectl
