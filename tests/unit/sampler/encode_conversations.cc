// Conversations on standard input, one a line, as moe-prepare turns them into tokens; for
// tests/numerics/conversation_oracle.py.
//
//   encode_conversations TOKENIZER TEMPLATE
//
// Prints {"tokens": [...], "is_target": [...]} for each, or {"error": "..."}.
#include <cstdio>
#include <iostream>
#include <string>

#include "common/json.h"
#include "common/status.h"
#include "sampler/chat_template.h"

namespace moe::sampler {
namespace {

absl::StatusOr<EncodedConversation> Encode(const ChatTemplate& chat, const Tokenizer& tokenizer,
                                           const std::string& line) {
  MOE_ASSIGN_OR_RETURN(const Conversation conversation, ParseConversation(line));
  return EncodeConversation(chat, conversation, tokenizer, tokenizer.settings().add_bos);
}

absl::Status Run(const std::string& path, const std::string& name) {
  MOE_ASSIGN_OR_RETURN(const std::unique_ptr<Tokenizer> tokenizer, OpenTokenizer(path));
  MOE_ASSIGN_OR_RETURN(const ChatTemplate chat, FindChatTemplate(name, *tokenizer));
  for (std::string line; std::getline(std::cin, line);) {
    const auto encoded = Encode(chat, *tokenizer, line);
    const Json json = encoded.ok()
                          ? Json{{"tokens", encoded->tokens}, {"is_target", encoded->is_target}}
                          : Json{{"error", Message(encoded.status())}};
    std::puts(json.dump().c_str());
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace moe::sampler

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fprintf(stderr, "usage: encode_conversations TOKENIZER TEMPLATE\n");
    return 2;
  }
  const absl::Status status = moe::sampler::Run(argv[1], argv[2]);
  if (!status.ok()) std::fprintf(stderr, "%s\n", moe::ToString(status).c_str());
  return status.ok() ? 0 : 1;
}
