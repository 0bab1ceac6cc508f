// YAML into a protobuf message, strictly, by the message's descriptor.
#pragma once

#include <google/protobuf/message.h>
#include <yaml-cpp/yaml.h>

#include <string>

#include "moectl/job_file/parameters.h"
#include "moectl/job_file/problems.h"

namespace moe::moectl {

struct ReadContext {
  const Parameters& parameters;
  // What a leading "~/" means in fields named `path` and `paths`.
  std::string home;
  Problems* problems;
};

// Fills `message` from the mapping `node`, whose keys are the field names of the proto. Everything
// unexpected is a problem with its place: unknown and repeated keys, wrong types, numbers outside
// the field's type, empty values, more or fewer than one field of a oneof. `path` names the message
// in problems ("jobs[2].train"). What is readable is read even where there are problems.
void ReadMessage(const YAML::Node& node, const std::string& path, const ReadContext& context,
                 google::protobuf::Message* message);

}  // namespace moe::moectl
