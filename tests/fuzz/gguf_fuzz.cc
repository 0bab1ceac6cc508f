// GGUF files: header, metadata, tensors, and their conversion to fp32.
#include <algorithm>
#include <vector>

#include "storage/artefacts/gguf.h"
#include "storage/artefacts/model_config.h"
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const moe::fuzz::MemoryFile file(data, size);
  const auto gguf = moe::artefacts::GgufFile::Open(file.path());
  moe::fuzz::ExpectReason(gguf.status());
  if (!gguf.ok()) return 0;
  moe::fuzz::ExpectReason(moe::artefacts::ParseGgufConfig(*gguf).status());
  for (const char* key : {"tokenizer.ggml.tokens", "tokenizer.ggml.merges"}) {
    moe::fuzz::ExpectReason(gguf->Strings(key).status());
  }
  for (const moe::artefacts::GgufTensor& tensor : gguf->tensors()) {
    if (tensor.numel() == 0 || tensor.columns() > 1 << 20) continue;
    const int64_t rows = std::min<int64_t>(tensor.rows(), 4);
    std::vector<float> values(rows * tensor.columns());
    gguf->Dequantise(tensor, values.data(), tensor.rows() - rows, rows);
  }
  return 0;
}
