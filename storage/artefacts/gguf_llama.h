// The weights of a dense LLaMA in a GGUF file, as Hugging Face names and orders them.
//
// llama.cpp rotates neighbouring elements of a head (2i, 2i + 1) where transformers rotates
// elements half a head apart (i, i + hd/2). Its converter therefore permutes the rows of the q and
// k projections; reading undoes that (reshape [heads, hd/2, 2, d], swap the middle axes).
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/artefacts/gguf.h"
#include "storage/artefacts/model_config.h"

namespace moe::artefacts {

struct GgufLlamaTensor {
  std::string name;            // "model.layers.0.self_attn.q_proj.weight"
  std::vector<int64_t> shape;  // [rows, columns] or [columns]

  int64_t numel() const { return shape.size() == 1 ? shape[0] : shape[0] * shape[1]; }
};

class GgufLlama {
 public:
  // INVALID_ARGUMENT where the file is not a plain LLaMA (see ParseGgufConfig), where a tensor of
  // the model is missing or has another shape than the metadata says, or where there is one that
  // the model does not have. Else as GgufFile::Open.
  static absl::StatusOr<GgufLlama> Open(const std::string& path);

  const GgufFile& file() const { return file_; }
  const ModelConfig& config() const { return config_; }
  // In the order of the model: embeddings, layers, last norm, output.
  const std::vector<GgufLlamaTensor>& tensors() const { return tensors_; }

  // Writes the whole tensor as fp32, numel() values, rows in Hugging Face order. A name that is not
  // among tensors() ends the process.
  void Read(const std::string& name, float* out) const;

 private:
  struct Source {
    const GgufTensor* tensor = nullptr;  // of file_; its address survives a move of file_
    int64_t permuted_heads = 0;          // 0: rows are in order
  };

  absl::Status Add(const std::string& name, const std::string& gguf_name,
                   std::vector<int64_t> shape, int64_t permuted_heads);

  GgufFile file_;
  ModelConfig config_;
  std::vector<GgufLlamaTensor> tensors_;
  std::map<std::string, Source> sources_;
};

}  // namespace moe::artefacts
