// Logits of a Hugging Face folder on token ids, for tests/numerics/rope_oracle.py.
//
//   hf_logits FOLDER SAMPLES LENGTH < int64 ids > fp32 logits [SAMPLES, LENGTH, V]
#include <ATen/core/Tensor.h>
#include <ATen/ops/empty.h>

#include <cstdio>
#include <string>

#include "common/status.h"
#include "worker/model/model.h"
#include "worker/model/weights.h"

int main(int argc, char** argv) {
  if (argc != 4) {
    std::fprintf(stderr, "usage: hf_logits FOLDER SAMPLES LENGTH\n");
    return 2;
  }
  const auto loaded = moe::model::LoadModel(argv[1]);
  if (!loaded.ok()) {
    std::fprintf(stderr, "%s\n", moe::ToString(loaded.status()).c_str());
    return 1;
  }
  at::Tensor tokens_BS = at::empty({std::stoll(argv[2]), std::stoll(argv[3])}, at::kLong);
  const size_t count = static_cast<size_t>(tokens_BS.numel());
  if (std::fread(tokens_BS.mutable_data_ptr(), sizeof(int64_t), count, stdin) != count) {
    std::fprintf(stderr, "expected %zu ids on standard input\n", count);
    return 1;
  }
  moe::model::Model model(loaded->config, {.compute = moe::model::ComputeType::kFp32});
  model.SetParameters(loaded->parameters);
  const at::Tensor logits = model.Logits(tokens_BS);
  const size_t numel = static_cast<size_t>(logits.numel());
  return std::fwrite(logits.const_data_ptr(), sizeof(float), numel, stdout) == numel ? 0 : 1;
}
