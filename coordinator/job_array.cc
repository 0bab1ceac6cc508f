#include "coordinator/job_array.h"

#include <google/protobuf/descriptor.h>
#include <google/protobuf/message.h>

#include <charconv>
#include <cmath>
#include <cstdlib>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "common/check.h"
#include "common/status.h"
#include "coordinator/spec/checker.h"

namespace moe::coordinator {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

constexpr int32_t kMaxElements = 100'000;
constexpr int kMaxFields = 16;

// What says which job it is and when it runs is the same for all.
const std::set<std::string>& FixedFields() {
  static const auto* const kFixed = new std::set<std::string>{
      "name", "queue", "array", "needs", "after_ok", "after_any", "after_not_ok", "labels"};
  return *kFixed;
}

// The field at the end of "train.optimizer.learning_rate", and the message that it is in.
struct Place {
  Message* message = nullptr;
  const FieldDescriptor* field = nullptr;
};

absl::StatusOr<Place> Find(const std::string& path, Message* root) {
  Place place{root, nullptr};
  size_t begin = 0;
  while (true) {
    const size_t dot = path.find('.', begin);
    const std::string name = path.substr(begin, dot - begin);
    const Descriptor* type = place.message->GetDescriptor();
    place.field = type->FindFieldByName(name);
    if (place.field == nullptr) {
      std::vector<std::string> known;
      for (int i = 0; i < type->field_count(); ++i) known.push_back(type->field(i)->name());
      return InvalidArgument("'{}' has no '{}'{}", path, name, Suggestion(name, known));
    }
    const bool is_message = place.field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
    if (place.field->is_repeated()) {
      return InvalidArgument("'{}' is a list; elements can differ in single values only", path);
    }
    if (dot == std::string::npos) {
      if (!is_message) return place;
      return InvalidArgument("'{}' is a mapping; name one of its keys, as in '{}.{}'", path, path,
                             place.field->message_type()->field(0)->name());
    }
    if (!is_message) return InvalidArgument("'{}': '{}' has no keys below it", path, name);
    place.message = place.message->GetReflection()->MutableMessage(place.message, place.field);
    begin = dot + 1;
  }
}

template <typename T>
bool Parse(const std::string& text, T* value) {
  const char* end = text.data() + text.size();
  const auto [rest, error] = std::from_chars(text.data(), end, *value);
  return error == std::errc() && rest == end;
}

bool Parse(const std::string& text, double* value) {
  char* end = nullptr;
  *value = std::strtod(text.c_str(), &end);
  return !text.empty() && *end == '\0' && std::isfinite(*value);
}

// False where the text is no value of the field.
bool Set(const Place& place, const std::string& text) {
  const auto* reflection = place.message->GetReflection();
  const auto set = [&](auto value, auto setter) {
    if (!Parse(text, &value)) return false;
    (reflection->*setter)(place.message, place.field, value);
    return true;
  };
  switch (place.field->cpp_type()) {
    case FieldDescriptor::CPPTYPE_STRING:
      reflection->SetString(place.message, place.field, text);
      return true;
    case FieldDescriptor::CPPTYPE_BOOL:
      if (text != "true" && text != "false") return false;
      reflection->SetBool(place.message, place.field, text == "true");
      return true;
    case FieldDescriptor::CPPTYPE_INT32:
      return set(int32_t{}, &google::protobuf::Reflection::SetInt32);
    case FieldDescriptor::CPPTYPE_INT64:
      return set(int64_t{}, &google::protobuf::Reflection::SetInt64);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return set(double{}, &google::protobuf::Reflection::SetDouble);
    default:
      return false;  // a spec has no fields of other types
  }
}

std::string TypeName(const FieldDescriptor& field) {
  switch (field.cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return "true or false";
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return "a number";
    default:
      return "an integer";
  }
}

}  // namespace

absl::Status CompleteArray(v1::JobSpec* spec) {
  v1::JobArray& array = *spec->mutable_array();
  if (array.fields_size() > kMaxFields) {
    return InvalidArgument("array.fields has {} entries; the limit is {}", array.fields_size(),
                           kMaxFields);
  }
  std::set<std::string> seen;
  v1::JobSpec scratch = *spec;
  for (const v1::ArrayField& field : array.fields()) {
    if (FixedFields().contains(field.field().substr(0, field.field().find('.')))) {
      return InvalidArgument("array.fields: '{}' is the same for all elements", field.field());
    }
    if (!seen.insert(field.field()).second) {
      return InvalidArgument("array.fields: '{}' is given twice; remove one", field.field());
    }
    const auto place = Find(field.field(), &scratch);
    if (!place.ok()) return Annotate(place.status(), "array.fields");
    for (const std::string& value : field.values()) {
      if (Set(*place, value)) continue;
      return InvalidArgument("array.fields: '{}' takes {}, and '{}' is none", field.field(),
                             TypeName(*place->field), value);
    }
    if (array.size() == 0) array.set_size(field.values_size());
    if (field.values_size() != array.size()) {
      return InvalidArgument("array.fields: '{}' has {} values for {} elements; give one for each",
                             field.field(), field.values_size(), array.size());
    }
  }
  if (scratch.kind_case() != spec->kind_case()) {
    return InvalidArgument("array.fields: name fields of the kind that the job has");
  }
  if (array.size() < 1 || array.size() > kMaxElements) {
    return InvalidArgument("array.size={} is out of range; use 1 to {}", array.size(),
                           kMaxElements);
  }
  if (array.max_running() < 0 || array.max_running() > kMaxElements) {
    return InvalidArgument("array.max_running={} is out of range; use 0 to {}", array.max_running(),
                           kMaxElements);
  }
  return absl::OkStatus();
}

v1::JobSpec ElementOf(const v1::JobSpec& spec, int32_t index) {
  v1::JobSpec element = spec;
  element.clear_array();
  element.clear_needs();
  element.clear_after_ok();
  element.clear_after_any();
  element.clear_after_not_ok();
  element.set_name(fmt::format("{}-{}", spec.name(), index));
  // Whatever the kind, it says so in a field of this name.
  const auto* kind = v1::JobSpec::descriptor()->FindOneofByName("kind");
  if (const FieldDescriptor* field =
          element.GetReflection()->GetOneofFieldDescriptor(element, kind)) {
    Message* message = element.GetReflection()->MutableMessage(&element, field);
    const FieldDescriptor* output = message->GetDescriptor()->FindFieldByName("output");
    const std::string base = message->GetReflection()->GetString(*message, output);
    message->GetReflection()->SetString(
        message, output, fmt::format("{}-{}", base.empty() ? spec.name() : base, index));
  }
  for (const v1::ArrayField& field : spec.array().fields()) {
    const auto place = Find(field.field(), &element);
    MOE_CHECK(place.ok() && Set(*place, field.values(index)));  // CompleteArray has tried it
  }
  return element;
}

}  // namespace moe::coordinator
