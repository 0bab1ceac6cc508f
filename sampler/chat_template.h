// What stands around the turns of a conversation, and the tokens that come of it.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sampler/conversation.h"
#include "sampler/tokenizer/tokenizer.h"

namespace moe::sampler {

struct ChatTemplate {
  std::string name;
  // Where a conversation says nothing. nullopt: then there is no system part at all.
  std::optional<std::string> system;
  std::string system_before, system_after;
  bool system_in_question = false;  // the system part stands inside the first question
  std::string question_before, question_after;
  std::string answer_before;   // left out where the answer is empty
  std::string answer_after;    // counts in the loss, as the answer does
  bool ends_with_eos = false;  // the end-of-sequence token follows, and counts as well
  std::string exchange_after;  // does not count
  bool bos_each_exchange = false;
  bool trims = false;  // white space at both ends of every text is left out
  // What a text must not hold: it would end its turn.
  std::vector<std::string> markers;
};

// "vicuna", "chatml", "llama2" or "llama3"; or "tokenizer": the one of these that the chat template
// in the tokenizer's configuration says, with its system prompt. INVALID_ARGUMENT where the
// template is not known, or the tokenizer lacks a token that it needs; says what to use instead.
absl::StatusOr<ChatTemplate> FindChatTemplate(const std::string& name, const Tokenizer& tokenizer);
// "tokenizer" where its configuration has a chat template, else "vicuna".
std::string DefaultChatTemplate(const Tokenizer& tokenizer);

struct EncodedConversation {
  std::vector<int32_t> tokens;
  std::vector<bool> is_target;  // of the answers and their ends
};

// Tokenises what an assistant is given and what it should say separately, as they meet it when it
// is used. `add_bos` puts the beginning-of-sequence token first. INVALID_ARGUMENT where a text
// holds a marker of the template.
absl::StatusOr<EncodedConversation> EncodeConversation(const ChatTemplate& chat,
                                                       const Conversation& conversation,
                                                       const Tokenizer& tokenizer, bool add_bos);

}  // namespace moe::sampler
