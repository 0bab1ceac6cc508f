#include "moectl/job_file/message_reader.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <google/protobuf/descriptor.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <limits>
#include <map>
#include <optional>
#include <vector>

#include "common/nearest.h"

namespace moe::moectl {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::OneofDescriptor;
using google::protobuf::Reflection;

std::string Describe(const YAML::Node& node) {
  switch (node.Type()) {
    case YAML::NodeType::Null:
    case YAML::NodeType::Undefined:
      return "nothing";
    case YAML::NodeType::Sequence:
      return "a list";
    case YAML::NodeType::Map:
      return "a mapping";
    case YAML::NodeType::Scalar:
      return fmt::format("'{}'", node.Scalar());
  }
  return "nothing";
}

// yaml-cpp tags quoted scalars with "!" and plain ones with "?".
bool IsQuoted(const YAML::Node& node) { return node.Tag() == "!"; }

std::string MessageName(const std::string& path, const Message& message) {
  return path.empty() ? message.GetDescriptor()->name() : path;
}

// Reads one scalar for one field; sets it, or adds it to a repeated one.
class ScalarReader {
 public:
  ScalarReader(const YAML::Node& node, std::string path, const ReadContext& context)
      : node_(node), path_(std::move(path)), context_(context) {
    if (node.IsScalar()) {
      text_ = context.parameters.Substitute(node.Scalar(), node.Mark(), context.problems);
    }
  }

  void Read(const FieldDescriptor* field, Message* message) {
    const Reflection* reflection = message->GetReflection();
    switch (field->cpp_type()) {
      case FieldDescriptor::CPPTYPE_STRING:
        if (auto value = String(field)) {
          field->is_repeated() ? reflection->AddString(message, field, *value)
                               : reflection->SetString(message, field, *value);
        }
        return;
      case FieldDescriptor::CPPTYPE_BOOL:
        if (auto value = Bool()) {
          field->is_repeated() ? reflection->AddBool(message, field, *value)
                               : reflection->SetBool(message, field, *value);
        }
        return;
      case FieldDescriptor::CPPTYPE_INT32:
        if (auto value = Integer<int32_t>()) {
          field->is_repeated() ? reflection->AddInt32(message, field, *value)
                               : reflection->SetInt32(message, field, *value);
        }
        return;
      case FieldDescriptor::CPPTYPE_INT64:
        if (auto value = Integer<int64_t>()) {
          field->is_repeated() ? reflection->AddInt64(message, field, *value)
                               : reflection->SetInt64(message, field, *value);
        }
        return;
      case FieldDescriptor::CPPTYPE_UINT32:
        if (auto value = Integer<uint32_t>()) {
          field->is_repeated() ? reflection->AddUInt32(message, field, *value)
                               : reflection->SetUInt32(message, field, *value);
        }
        return;
      case FieldDescriptor::CPPTYPE_UINT64:
        if (auto value = Integer<uint64_t>()) {
          field->is_repeated() ? reflection->AddUInt64(message, field, *value)
                               : reflection->SetUInt64(message, field, *value);
        }
        return;
      case FieldDescriptor::CPPTYPE_DOUBLE:
        if (auto value = Double(std::numeric_limits<double>::max())) {
          field->is_repeated() ? reflection->AddDouble(message, field, *value)
                               : reflection->SetDouble(message, field, *value);
        }
        return;
      case FieldDescriptor::CPPTYPE_FLOAT:
        if (auto value = Double(std::numeric_limits<float>::max())) {
          field->is_repeated() ? reflection->AddFloat(message, field, static_cast<float>(*value))
                               : reflection->SetFloat(message, field, static_cast<float>(*value));
        }
        return;
      case FieldDescriptor::CPPTYPE_ENUM:
        if (auto value = Enum(field->enum_type())) {
          field->is_repeated() ? reflection->AddEnumValue(message, field, *value)
                               : reflection->SetEnumValue(message, field, *value);
        }
        return;
      case FieldDescriptor::CPPTYPE_MESSAGE:
        return;  // ReadField does these.
    }
  }

 private:
  std::nullopt_t Expected(const std::string& what) {
    if (!node_.IsScalar()) {
      Fail(fmt::format("{}: expected {}, got {}", path_, what, Describe(node_)));
    } else {
      Fail(fmt::format("{}: expected {}, got {}'{}'", path_, what,
                       IsQuotedLiteral() ? "the text " : "", text_));
    }
    return std::nullopt;
  }

  // "5" in quotes is text; "${steps}" in quotes is a habit from shells and allowed.
  bool IsQuotedLiteral() const { return IsQuoted(node_) && text_ == node_.Scalar(); }

  std::optional<std::string> String(const FieldDescriptor* field) {
    if (!node_.IsScalar()) return Expected("text");
    if ((field->name() == "path" || field->name() == "paths") && text_.starts_with("~/")) {
      if (context_.home.empty()) {
        Fail(fmt::format("{}: '{}' needs HOME, which is not set", path_, text_));
        return std::nullopt;
      }
      return context_.home + text_.substr(1);
    }
    return text_;
  }

  std::optional<bool> Bool() {
    if (!node_.IsScalar() || IsQuotedLiteral()) return Expected("true or false");
    if (text_ == "true") return true;
    if (text_ == "false") return false;
    return Expected("true or false");
  }

  template <typename T>
  std::optional<T> Integer() {
    if (!node_.IsScalar() || IsQuotedLiteral()) return Expected("an integer");
    const size_t digits_begin = text_.starts_with('-') ? 1 : 0;
    if (text_.size() == digits_begin ||
        text_.find_first_not_of("0123456789", digits_begin) != std::string::npos) {
      return Expected("an integer");
    }
    T value{};
    const char* end = text_.data() + text_.size();
    const auto result = std::from_chars(text_.data(), end, value);
    if (result.ec != std::errc() || result.ptr != end) {
      Fail(fmt::format("{}: {} is outside {} to {}", path_, text_, std::numeric_limits<T>::min(),
                       std::numeric_limits<T>::max()));
      return std::nullopt;
    }
    return value;
  }

  std::optional<double> Double(double limit) {
    if (!node_.IsScalar() || IsQuotedLiteral() || text_.empty()) return Expected("a number");
    // strtod also reads hexadecimal, "inf" and "nan".
    if (text_.find_first_not_of("0123456789+-.eE") != std::string::npos) {
      return Expected("a number");
    }
    char* end = nullptr;
    const double value = std::strtod(text_.c_str(), &end);
    if (end != text_.c_str() + text_.size()) return Expected("a number");
    if (!(std::abs(value) <= limit)) {
      Fail(fmt::format("{}: {} is beyond the limit {}", path_, text_, limit));
      return std::nullopt;
    }
    return value;
  }

  std::optional<int> Enum(const google::protobuf::EnumDescriptor* type) {
    std::vector<std::string> names;
    names.reserve(type->value_count());
    for (int i = 0; i < type->value_count(); ++i) names.push_back(type->value(i)->name());
    if (!node_.IsScalar()) return Expected(fmt::format("one of {}", fmt::join(names, ", ")));
    if (const auto* value = type->FindValueByName(text_)) return value->number();
    const std::string nearest = Nearest(text_, names);
    if (nearest.empty()) return Expected(fmt::format("one of {}", fmt::join(names, ", ")));
    Fail(fmt::format("{}: unknown value '{}'; did you mean '{}'?", path_, text_, nearest));
    return std::nullopt;
  }

  void Fail(const std::string& message) { context_.problems->Add(node_.Mark(), message); }

  const YAML::Node& node_;
  std::string path_;
  const ReadContext& context_;
  std::string text_;
};

void ReadMap(const YAML::Node& node, const std::string& path, const ReadContext& context,
             const FieldDescriptor* field, Message* message) {
  if (!node.IsMap()) {
    context.problems->Add(
        node.Mark(),
        fmt::format("{}: expected a mapping of names to values, got {}", path, Describe(node)));
    return;
  }
  const FieldDescriptor* key_field = field->message_type()->map_key();
  const FieldDescriptor* value_field = field->message_type()->map_value();
  std::map<std::string, int> seen;
  for (const auto& entry : node) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
    const std::string entry_path = fmt::format("{}.{}", path, key);
    if (const auto [first, is_new] = seen.emplace(key, entry.first.Mark().line + 1); !is_new) {
      context.problems->Add(entry.first.Mark(), fmt::format("{}: given twice, first in line {}",
                                                            entry_path, first->second));
      continue;
    }
    Message* item = message->GetReflection()->AddMessage(message, field);
    ScalarReader(entry.first, entry_path, context).Read(key_field, item);
    if (value_field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
      ReadMessage(entry.second, entry_path, context,
                  item->GetReflection()->MutableMessage(item, value_field));
    } else {
      ScalarReader(entry.second, entry_path, context).Read(value_field, item);
    }
  }
}

void ReadField(const YAML::Node& node, const std::string& path, const ReadContext& context,
               const FieldDescriptor* field, Message* message) {
  const Reflection* reflection = message->GetReflection();
  const bool is_message = field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
  if (field->is_map()) {
    ReadMap(node, path, context, field, message);
  } else if (field->is_repeated()) {
    if (!node.IsSequence()) {
      context.problems->Add(node.Mark(),
                            fmt::format("{}: expected a list, got {}", path, Describe(node)));
      return;
    }
    for (size_t i = 0; i < node.size(); ++i) {
      const std::string item_path = fmt::format("{}[{}]", path, i);
      if (is_message) {
        ReadMessage(node[i], item_path, context, reflection->AddMessage(message, field));
      } else {
        ScalarReader(node[i], item_path, context).Read(field, message);
      }
    }
  } else if (is_message) {
    ReadMessage(node, path, context, reflection->MutableMessage(message, field));
  } else {
    ScalarReader(node, path, context).Read(field, message);
  }
}

// Names of the fields, in the order of the proto file.
std::vector<std::string> FieldNames(const Descriptor* type) {
  std::vector<std::string> names;
  names.reserve(type->field_count());
  for (int i = 0; i < type->field_count(); ++i) names.push_back(type->field(i)->name());
  return names;
}

void AddUnknownKey(const YAML::Node& key_node, const std::string& key, const std::string& owner,
                   const Descriptor* type, Problems* problems) {
  const std::vector<std::string> known = FieldNames(type);
  const std::string nearest = Nearest(key, known);
  problems->Add(
      key_node.Mark(),
      nearest.empty()
          ? fmt::format("{}: unknown key '{}'; known are: {}", owner, key, fmt::join(known, ", "))
          : fmt::format("{}: unknown key '{}'; did you mean '{}'?", owner, key, nearest));
}

}  // namespace

void ReadMessage(const YAML::Node& node, const std::string& path, const ReadContext& context,
                 Message* message) {
  const Descriptor* type = message->GetDescriptor();
  const std::string owner = MessageName(path, *message);
  if (!node.IsMap()) {
    context.problems->Add(
        node.Mark(), fmt::format("{}: expected a mapping with some of the keys {}, got {}", owner,
                                 fmt::join(FieldNames(type), ", "), Describe(node)));
    return;
  }

  std::map<const FieldDescriptor*, int> line_of_field;
  std::map<const OneofDescriptor*, const FieldDescriptor*> chosen;
  bool has_unknown_key = false;
  for (const auto& entry : node) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : "";
    const FieldDescriptor* field = type->FindFieldByName(key);
    if (field == nullptr) {
      has_unknown_key = true;
      AddUnknownKey(entry.first, key, owner, type, context.problems);
      continue;
    }
    const int line = entry.first.Mark().line + 1;
    if (const auto [first, is_new] = line_of_field.emplace(field, line); !is_new) {
      context.problems->Add(
          entry.first.Mark(),
          fmt::format("{}: key '{}' given twice, first in line {}", owner, key, first->second));
      continue;
    }
    if (entry.second.IsNull()) {
      // The value's own place would be that of the next key.
      context.problems->Add(
          entry.first.Mark(),
          fmt::format("{}: key '{}' has no value; remove it to take the default", owner, key));
      if (field->real_containing_oneof() != nullptr) {
        chosen.emplace(field->real_containing_oneof(), field);
      }
      continue;
    }
    if (const OneofDescriptor* oneof = field->real_containing_oneof()) {
      if (const auto [first, is_new] = chosen.emplace(oneof, field); !is_new) {
        context.problems->Add(entry.first.Mark(),
                              fmt::format("{}: '{}' and '{}' exclude each other; keep one", owner,
                                          first->second->name(), key));
        continue;
      }
    }
    ReadField(entry.second, path.empty() ? key : fmt::format("{}.{}", path, key), context, field,
              message);
  }

  // Every oneof of our specs wants exactly one. A mistyped key is probably the missing one.
  for (int i = 0; i < type->real_oneof_decl_count() && !has_unknown_key; ++i) {
    const OneofDescriptor* oneof = type->oneof_decl(i);
    if (chosen.contains(oneof)) continue;
    std::vector<std::string> names;
    names.reserve(oneof->field_count());
    for (int f = 0; f < oneof->field_count(); ++f) names.push_back(oneof->field(f)->name());
    context.problems->Add(node.Mark(),
                          fmt::format("{}: needs one of {}", owner, fmt::join(names, ", ")));
  }
}

}  // namespace moe::moectl
