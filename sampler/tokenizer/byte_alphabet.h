// The alphabet of byte-level BPE: each byte as one printable character (GPT-2's bytes_to_unicode).
#pragma once

#include <string>

namespace moe::sampler {

// The bytes that `token` spells: "\u0120the" is " the". A token with a character outside the
// alphabet stands for its own bytes.
std::string BytesOfToken(const std::string& token);

// How `bytes` are spelled: " the" is "\u0120the".
std::string TokenOfBytes(const std::string& bytes);

}  // namespace moe::sampler
