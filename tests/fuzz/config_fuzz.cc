// config.json of Hugging Face folders. What is accepted must survive being written and read again.
#include "common/json.h"
#include "storage/artefacts/model_config.h"
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const moe::Json json = moe::Json::parse(data, data + size, nullptr, /*allow_exceptions=*/false);
  if (json.is_discarded() || !json.is_object()) return 0;
  const auto config = moe::artefacts::ParseHfConfig(json, "config.json");
  moe::fuzz::ExpectReason(config.status());
  if (!config.ok()) return 0;
  const moe::Json written = moe::artefacts::ToHfConfig(*config, "float32");
  const auto again = moe::artefacts::ParseHfConfig(written, "config.json");
  MOE_CHECK(again.ok());
  MOE_CHECK(moe::artefacts::ToHfConfig(*again, "float32") == written);
  return 0;
}
