// Safetensors files: every tensor that the header promises must lie in the file.
#include <cstdint>

#include "storage/artefacts/safetensors.h"
#include "tests/fuzz/target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const moe::fuzz::MemoryFile memory(data, size);
  const auto file = moe::artefacts::SafetensorsFile::Open(memory.path());
  moe::fuzz::ExpectReason(file.status());
  if (!file.ok()) return 0;
  uint64_t sum = 0;
  for (const moe::artefacts::TensorInfo& tensor : file->tensors()) {
    MOE_CHECK(tensor.size_bytes ==
              static_cast<uint64_t>(tensor.numel()) * moe::artefacts::DTypeSize(tensor.dtype));
    for (uint64_t i = 0; i < tensor.size_bytes; ++i) sum += file->data(tensor)[i];
  }
  volatile uint64_t seen = sum;  // so that the reads happen
  (void)seen;
  return 0;
}
