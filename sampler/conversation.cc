#include "sampler/conversation.h"

#include <map>
#include <utility>

#include "common/json.h"
#include "common/status.h"

namespace moe::sampler {
namespace {

enum class Role { kSystem, kUser, kAssistant };

// The two common forms.
struct Form {
  const char* list;
  const char* role;
  const char* text;
  std::map<std::string, Role> roles;
};

const Form& FormOf(const Json& object) {
  static const Form kShareGpt = {
      "conversations",
      "from",
      "value",
      {{"system", Role::kSystem}, {"human", Role::kUser}, {"gpt", Role::kAssistant}}};
  static const Form kOpenAi = {
      "messages",
      "role",
      "content",
      {{"system", Role::kSystem}, {"user", Role::kUser}, {"assistant", Role::kAssistant}}};
  return object.contains(kShareGpt.list) ? kShareGpt : kOpenAi;
}

absl::StatusOr<std::string> StringOf(const Json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_string()) {
    return InvalidArgument("a turn has no text in \"{}\"", key);
  }
  return it->get<std::string>();
}

}  // namespace

absl::StatusOr<Conversation> ParseConversation(const std::string& line) {
  const Json object = Json::parse(line, nullptr, /*allow_exceptions=*/false);
  if (!object.is_object()) return InvalidArgument("not a JSON object");
  const Form& form = FormOf(object);
  const auto list = object.find(form.list);
  if (list == object.end() || !list->is_array()) {
    return InvalidArgument("there is no list of turns in \"messages\" or \"conversations\"");
  }

  Conversation conversation;
  if (const auto system = object.find("system_prompt"); system != object.end()) {
    if (!system->is_string()) return InvalidArgument("\"system_prompt\" is not a string");
    conversation.system = system->get<std::string>();
  }
  std::optional<std::string> question;  // not answered yet
  for (const Json& turn : *list) {
    if (!turn.is_object()) return InvalidArgument("a turn is not a JSON object");
    MOE_ASSIGN_OR_RETURN(const std::string name, StringOf(turn, form.role));
    MOE_ASSIGN_OR_RETURN(std::string text, StringOf(turn, form.text));
    const auto role = form.roles.find(name);
    if (role == form.roles.end()) {
      return InvalidArgument("a turn is of the role \"{}\", which is not known", name);
    }
    const bool has_begun = question.has_value() || !conversation.exchanges.empty();
    switch (role->second) {
      case Role::kSystem:
        if (has_begun) return InvalidArgument("a system turn comes after the first user's");
        conversation.system = std::move(text);
        break;
      case Role::kUser:
        if (question.has_value()) return InvalidArgument("two turns of the user follow each other");
        question = std::move(text);
        break;
      case Role::kAssistant:
        if (!has_begun) break;
        if (!question.has_value()) {
          return InvalidArgument("two turns of the assistant follow each other");
        }
        conversation.exchanges.push_back({*std::exchange(question, std::nullopt), std::move(text)});
        break;
    }
  }
  if (conversation.exchanges.empty()) {
    return InvalidArgument("no turn of the assistant answers one of the user");
  }
  return conversation;
}

}  // namespace moe::sampler
