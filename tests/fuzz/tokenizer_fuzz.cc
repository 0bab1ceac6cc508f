// tokenizer.json: what is accepted must take any text and give ids of its vocabulary.
#include <cstdlib>
#include <fstream>
#include <string>

#include "sampler/tokenizer/tokenizer.h"
#include "tests/fuzz/target.h"

namespace {

std::string Folder() {
  static const std::string folder = [] {
    std::string pattern = "/tmp/moe-fuzz-XXXXXX";
    MOE_CHECK(::mkdtemp(pattern.data()) != nullptr);
    return pattern;
  }();
  return folder;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::ofstream(Folder() + "/tokenizer.json", std::ios::binary)
      .write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
  const auto tokenizer = moe::sampler::OpenTokenizer(Folder());
  moe::fuzz::ExpectReason(tokenizer.status());
  if (!tokenizer.ok()) return 0;
  const auto ids = (*tokenizer)->Encode("The king's 12 men,\n  na\xc3\xafve \xff<|end|>");
  moe::fuzz::ExpectReason(ids.status());
  if (!ids.ok()) return 0;
  for (const int32_t id : *ids) MOE_CHECK(id >= 0 && id < (*tokenizer)->vocab_size());
  (void)(*tokenizer)->Decode(*ids);
  return 0;
}
