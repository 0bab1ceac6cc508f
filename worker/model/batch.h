// The samples that go through a model together.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <span>
#include <vector>

namespace moe::model {

// Samples of any length, end to end: none sees another, and there is no padding. Where documents
// are given, none sees another either.
//
// B samples, D documents, T tokens over all of them.
struct Batch {
  std::vector<int64_t> tokens;   // [T]
  std::vector<int64_t> targets;  // [T]: what to predict after each token, or -1 for nothing
  std::vector<int64_t> ends;     // [B]: one past the last token of each sample
  // [D], or empty: one past the last token of each document. One that goes on in another sample is
  // another document there. Positions are those in the sample all the same.
  std::vector<int64_t> document_ends;

  // Adds a sample. Room for its tokens and targets: to be filled in.
  struct Room {
    int64_t* tokens;
    int64_t* targets;
  };
  Room AddSample(int64_t length) {
    const size_t begin = tokens.size();
    tokens.resize(begin + static_cast<size_t>(length));
    targets.resize(tokens.size(), -1);
    ends.push_back(static_cast<int64_t>(tokens.size()));
    return {tokens.data() + begin, targets.data() + begin};
  }

  // One past the last token of each stretch of text within which tokens attend to those before.
  std::span<const int64_t> attention_ends() const {
    return document_ends.empty() ? ends : document_ends;
  }

  int64_t num_samples() const { return static_cast<int64_t>(ends.size()); }
  int64_t num_tokens() const { return static_cast<int64_t>(tokens.size()); }
  int64_t num_targets() const;
};

// Samples of equal length, each token's target the next one. int64 [B, S] on the CPU;
// std::invalid_argument where it is something else.
Batch ToBatch(const at::Tensor& tokens_BS);

// Where a token stands.
struct TokenPlace {
  int32_t sample = 0;    // in the batch
  int32_t position = 0;  // in its sample
};
std::vector<TokenPlace> PlacesOf(std::span<const int64_t> ends);

}  // namespace moe::model
