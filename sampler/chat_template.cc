#include "sampler/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "common/json.h"
#include "common/status.h"

namespace moe::sampler {
namespace {

// As the published models were tuned (Vicuna 1.1): without a system prompt a text begins with a
// space.
ChatTemplate Vicuna() {
  return {.name = "vicuna",
          .system = "",
          .system_after = " ",
          .question_before = "USER: ",
          .question_after = " ASSISTANT:",
          .answer_before = " ",
          .ends_with_eos = true};
}

ChatTemplate ChatMl() {
  return {.name = "chatml",
          .system_before = "<|im_start|>system\n",
          .system_after = "<|im_end|>\n",
          .question_before = "<|im_start|>user\n",
          .question_after = "<|im_end|>\n<|im_start|>assistant\n",
          .answer_after = "<|im_end|>",
          .exchange_after = "\n",
          .markers = {"<|im_start|>", "<|im_end|>"}};
}

ChatTemplate Llama2() {
  return {.name = "llama2",
          .system_before = "<<SYS>>\n",
          .system_after = "\n<</SYS>>\n\n",
          .system_in_question = true,
          .question_before = "[INST] ",
          .question_after = " [/INST]",
          .answer_before = " ",
          .answer_after = " ",
          .ends_with_eos = true,
          .bos_each_exchange = true,
          .trims = true};
}

ChatTemplate Llama3() {
  return {.name = "llama3",
          .system_before = "<|start_header_id|>system<|end_header_id|>\n\n",
          .system_after = "<|eot_id|>",
          .question_before = "<|start_header_id|>user<|end_header_id|>\n\n",
          .question_after = "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
          .answer_after = "<|eot_id|>",
          .trims = true,
          .markers = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"}};
}

constexpr char kNames[] = "vicuna, chatml, llama2 or llama3";

// The chat template of tokenizer_config.json: a text, or a list of named ones with a "default".
std::string TemplateText(const Tokenizer& tokenizer) {
  const auto file = tokenizer.files().files.find("tokenizer_config.json");
  if (file == tokenizer.files().files.end()) return "";
  const Json config = Json::parse(file->second, nullptr, /*allow_exceptions=*/false);
  if (!config.is_object() || !config.contains("chat_template")) return "";
  const Json& text = config["chat_template"];
  if (text.is_string()) return text.get<std::string>();
  if (!text.is_array()) return "";
  for (const Json& entry : text) {
    if (entry.is_object() && entry.value("name", "") == "default") {
      return entry.value("template", "");
    }
  }
  return "";
}

bool Contains(const std::string& text, const std::string& part) {
  return text.find(part) != std::string::npos;
}

// How people write the same expression differs in blanks, in the kind of quotes, and in whether a
// line break in a literal is one or is written as \n: brought into one form.
std::string Squeezed(const std::string& text) {
  std::string squeezed;
  bool in_tag = false;  // {{ ... }} or {% ... %}
  char quote = '\0';    // that a literal in a tag began with
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i], next = i + 1 < text.size() ? text[i + 1] : '\0';
    if (quote != '\0') {
      if (c == quote) quote = '\0';
    } else if (in_tag) {
      if (c == '\'' || c == '"') quote = c;
      if ((c == '}' || c == '%') && next == '}') in_tag = false;
    } else if (c == '{' && (next == '{' || next == '%')) {
      in_tag = true;
    }
    const bool is_blank = c == ' ' || c == '\n' || c == '\t' || c == '\r';
    if (quote != '\0' && c == '\n') {
      squeezed += "\\n";
    } else if (!is_blank || quote != '\0') {
      squeezed.push_back(c == '"' ? '\'' : c);
    }
  }
  return squeezed;
}

// The literal that ChatML templates put first where a conversation has no system turn.
std::optional<std::string> ChatMlSystem(const std::string& text) {
  for (const std::string begin : {"<|im_start|>system\\n", "<|im_start|>system\n"}) {
    for (size_t at = text.find(begin); at != std::string::npos; at = text.find(begin, at + 1)) {
      const size_t first = at + begin.size();
      const size_t end = text.find("<|im_end|>", first);
      if (end == std::string::npos) break;
      const std::string literal = text.substr(first, end - first);
      if (!literal.empty() && literal.find_first_of("'\"{}\\") == std::string::npos) return literal;
    }
  }
  return std::nullopt;
}

absl::StatusOr<ChatTemplate> FromText(const std::string& text, const std::string& source) {
  const std::string squeezed = Squeezed(text);
  // Templates of models that think or call tools do more to a conversation than the forms here.
  const bool rewrites = Contains(text, "</think>") || Contains(text, "reasoning_content") ||
                        Contains(text, "Cutting Knowledge");
  if (!rewrites) {
    for (const std::string role : {"message['role']", "message.role"}) {
      const std::string content = role == "message.role" ? "message.content" : "message['content']";
      for (const std::string end : {"'<|im_end|>'+'\\n'", "'<|im_end|>\\n'"}) {
        if (!Contains(squeezed, fmt::format("'<|im_start|>'+{}+'\\n'+{}+{}", role, content, end))) {
          continue;
        }
        ChatTemplate chat = ChatMl();
        chat.system = ChatMlSystem(text);
        return chat;
      }
    }
    if (Contains(text, "<|start_header_id|>") && Contains(text, "<|eot_id|>") &&
        Contains(squeezed, "'<|end_header_id|>\\n\\n'+message['content']|trim+'<|eot_id|>'")) {
      return Llama3();
    }
    if (Contains(text, "[INST]") && Contains(text, "<<SYS>>") && Contains(text, ".strip()")) {
      return Llama2();
    }
  }
  return InvalidArgument(
      "the chat template of {} is none of those that are known; set conversations.template to {}",
      source, kNames);
}

absl::Status CheckTokens(const ChatTemplate& chat, const Tokenizer& tokenizer) {
  for (const std::string& marker : chat.markers) {
    MOE_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokenizer.Encode(marker));
    if (ids.size() != 1) {
      return InvalidArgument(
          "the template {} needs the token {}, which the tokenizer {} does not have; use {}",
          chat.name, marker, tokenizer.files().source, kNames);
    }
  }
  const TokenizerSettings& settings = tokenizer.settings();
  if (chat.ends_with_eos && settings.eos_id < 0) {
    return InvalidArgument(
        "the template {} ends answers with an end-of-sequence token, which the tokenizer {} does "
        "not have; use {}",
        chat.name, tokenizer.files().source, kNames);
  }
  if (chat.bos_each_exchange && settings.bos_id < 0) {
    return InvalidArgument(
        "the template {} begins turns with a beginning-of-sequence token, which the tokenizer {} "
        "does not have; use {}",
        chat.name, tokenizer.files().source, kNames);
  }
  return absl::OkStatus();
}

std::string Trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n\f\v");
  if (first == std::string::npos) return "";
  return text.substr(first, text.find_last_not_of(" \t\r\n\f\v") - first + 1);
}

}  // namespace

std::string DefaultChatTemplate(const Tokenizer& tokenizer) {
  return TemplateText(tokenizer).empty() ? "vicuna" : "tokenizer";
}

absl::StatusOr<ChatTemplate> FindChatTemplate(const std::string& name, const Tokenizer& tokenizer) {
  ChatTemplate chat;
  if (name == "vicuna") {
    chat = Vicuna();
  } else if (name == "chatml") {
    chat = ChatMl();
  } else if (name == "llama2") {
    chat = Llama2();
  } else if (name == "llama3") {
    chat = Llama3();
  } else if (name == "tokenizer") {
    const std::string text = TemplateText(tokenizer);
    if (text.empty()) {
      return InvalidArgument(
          "the tokenizer {} has no chat template; set conversations.template to {}",
          tokenizer.files().source, kNames);
    }
    MOE_ASSIGN_OR_RETURN(chat, FromText(text, tokenizer.files().source));
  } else {
    return InvalidArgument("conversations.template='{}' is not known; use tokenizer, {}", name,
                           kNames);
  }
  MOE_RETURN_IF_ERROR(CheckTokens(chat, tokenizer));
  for (const int32_t id : {tokenizer.settings().bos_id, tokenizer.settings().eos_id}) {
    if (id < 0) continue;
    const std::string marker = tokenizer.Decode(std::vector<int32_t>{id});
    if (!marker.empty()) chat.markers.push_back(marker);
  }
  return chat;
}

absl::StatusOr<EncodedConversation> EncodeConversation(const ChatTemplate& chat,
                                                       const Conversation& conversation,
                                                       const Tokenizer& tokenizer, bool add_bos) {
  EncodedConversation encoded;
  const auto append = [&](const std::vector<int32_t>& ids, bool is_target) {
    encoded.tokens.insert(encoded.tokens.end(), ids.begin(), ids.end());
    encoded.is_target.insert(encoded.is_target.end(), ids.size(), is_target);
  };
  // SentencePiece puts a space before every text that it is given; the one that a template has
  // there is the same.
  const auto append_text = [&](std::string text, bool is_target) -> absl::Status {
    if (tokenizer.files().is_sentencepiece() && !encoded.tokens.empty() && !text.empty() &&
        text[0] == ' ' && is_target) {
      text.erase(0, 1);
    }
    if (text.empty()) return absl::OkStatus();
    MOE_ASSIGN_OR_RETURN(const std::vector<int32_t> ids, tokenizer.Encode(text));
    append(ids, is_target);
    return absl::OkStatus();
  };
  const auto clean = [&](const std::string& text) -> absl::StatusOr<std::string> {
    for (const std::string& marker : chat.markers) {
      if (Contains(text, marker)) {
        return InvalidArgument("a turn holds {}, which would end it", marker);
      }
    }
    return chat.trims ? Trimmed(text) : text;
  };

  std::string system;
  if (const auto& words = conversation.system.has_value() ? conversation.system : chat.system) {
    MOE_ASSIGN_OR_RETURN(const std::string text, clean(*words));
    system = chat.system_before + text + chat.system_after;
  }
  std::string given;  // what the assistant reads before it speaks
  if (!chat.system_in_question) given = std::exchange(system, "");
  for (size_t i = 0; i < conversation.exchanges.size(); ++i) {
    const Exchange& exchange = conversation.exchanges[i];
    MOE_ASSIGN_OR_RETURN(const std::string question, clean(exchange.question));
    MOE_ASSIGN_OR_RETURN(const std::string answer, clean(exchange.answer));
    if (chat.bos_each_exchange || (i == 0 && add_bos)) {
      append({tokenizer.settings().bos_id}, /*is_target=*/false);
    }
    given += chat.question_before + std::exchange(system, "") + question + chat.question_after;
    MOE_RETURN_IF_ERROR(append_text(std::exchange(given, ""), /*is_target=*/false));
    const std::string before = answer.empty() ? "" : chat.answer_before;
    MOE_RETURN_IF_ERROR(append_text(before + answer + chat.answer_after, /*is_target=*/true));
    if (chat.ends_with_eos) append({tokenizer.settings().eos_id}, /*is_target=*/true);
    given = chat.exchange_after;
  }
  MOE_RETURN_IF_ERROR(append_text(given, /*is_target=*/false));
  return encoded;
}

}  // namespace moe::sampler
