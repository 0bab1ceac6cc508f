// What every prepared dataset begins with.
#pragma once

#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "sampler/prepare_spec.h"
#include "sampler/tokenizer/tokenizer.h"

namespace moe::sampler {

// Makes the folder. FAILED_PRECONDITION where it holds something.
absl::Status MakeDatasetFolder(const std::string& folder);

// What the spec says, or else the tokenizer. INVALID_ARGUMENT where there is no such token.
absl::StatusOr<bool> ResolveAddBos(const PrepareSpec& spec, const Tokenizer& tokenizer);

}  // namespace moe::sampler
