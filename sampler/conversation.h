// A conversation between a user and an assistant, as data for instruction tuning has it. Pure.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace moe::sampler {

// What one user said and what the assistant answered.
struct Exchange {
  std::string question;
  std::string answer;
};

struct Conversation {
  std::optional<std::string> system;  // what the assistant is told beforehand
  std::vector<Exchange> exchanges;    // at least one
};

// From a line of JSON (moe.v1.Conversations has the two forms). Turns before the user's first and a
// question without an answer at the end are left out. INVALID_ARGUMENT says what is wrong.
absl::StatusOr<Conversation> ParseConversation(const std::string& line);

}  // namespace moe::sampler
