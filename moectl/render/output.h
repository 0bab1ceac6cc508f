// The choice of -o, and the forms that programs read.
#pragma once

#include <google/protobuf/message.h>

#include <string>

namespace moe::moectl {

enum class Output { kTable, kWide, kJson, kYaml, kName };

// `name` is one of table, wide, json, yaml, name.
Output OutputOf(const std::string& name);

// Protobuf's JSON form with the original field names; fields without presence are there with their
// zero values, so that a script finds them. 64-bit integers are strings. Ends with a line break.
std::string ToJson(const google::protobuf::Message& message);
// The same content as YAML.
std::string ToYaml(const google::protobuf::Message& message);

}  // namespace moe::moectl
