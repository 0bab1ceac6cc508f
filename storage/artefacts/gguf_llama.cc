#include "storage/artefacts/gguf_llama.h"

#include <fmt/ranges.h>

#include <set>
#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace moe::artefacts {

absl::StatusOr<GgufLlama> GgufLlama::Open(const std::string& path) {
  GgufLlama result;
  MOE_ASSIGN_OR_RETURN(result.file_, GgufFile::Open(path));
  MOE_ASSIGN_OR_RETURN(result.config_, ParseGgufConfig(result.file_));
  const ModelConfig& config = result.config_;
  const int64_t d = config.hidden_size, n = config.intermediate_size;
  const int64_t q_rows = config.num_heads * config.head_dim;
  const int64_t kv_rows = config.num_kv_heads * config.head_dim;

  MOE_RETURN_IF_ERROR(
      result.Add("model.embed_tokens.weight", "token_embd.weight", {config.vocab_size, d}, 0));
  for (int64_t layer = 0; layer < config.num_layers; ++layer) {
    const struct {
      const char* name;
      const char* gguf_name;
      std::vector<int64_t> shape;
      int64_t permuted_heads;
    } tensors[] = {
        {"input_layernorm", "attn_norm", {d}, 0},
        {"self_attn.q_proj", "attn_q", {q_rows, d}, config.num_heads},
        {"self_attn.k_proj", "attn_k", {kv_rows, d}, config.num_kv_heads},
        {"self_attn.v_proj", "attn_v", {kv_rows, d}, 0},
        {"self_attn.o_proj", "attn_output", {d, q_rows}, 0},
        {"post_attention_layernorm", "ffn_norm", {d}, 0},
        {"mlp.gate_proj", "ffn_gate", {n, d}, 0},
        {"mlp.up_proj", "ffn_up", {n, d}, 0},
        {"mlp.down_proj", "ffn_down", {d, n}, 0},
    };
    for (const auto& tensor : tensors) {
      MOE_RETURN_IF_ERROR(result.Add(fmt::format("model.layers.{}.{}.weight", layer, tensor.name),
                                     fmt::format("blk.{}.{}.weight", layer, tensor.gguf_name),
                                     tensor.shape, tensor.permuted_heads));
    }
  }
  MOE_RETURN_IF_ERROR(result.Add("model.norm.weight", "output_norm.weight", {d}, 0));
  if (!config.tie_word_embeddings) {
    MOE_RETURN_IF_ERROR(result.Add("lm_head.weight", "output.weight", {config.vocab_size, d}, 0));
  }

  std::set<const GgufTensor*> used;
  for (const auto& [name, source] : result.sources_) used.insert(source.tensor);
  for (const GgufTensor& tensor : result.file_.tensors()) {
    if (used.count(&tensor) == 0) {
      return InvalidArgument("{}: tensor {} has no place in a LLaMA of {} layers without biases",
                             path, tensor.name, config.num_layers);
    }
  }
  return result;
}

absl::Status GgufLlama::Add(const std::string& name, const std::string& gguf_name,
                            std::vector<int64_t> shape, int64_t permuted_heads) {
  const GgufTensor* tensor = file_.Find(gguf_name);
  if (tensor == nullptr) {
    return InvalidArgument("{}: tensor {} is missing", file_.path(), gguf_name);
  }
  if (tensor->shape != shape) {
    return InvalidArgument("{}: tensor {} has the shape [{}], the metadata says [{}]", file_.path(),
                           gguf_name, fmt::join(tensor->shape, ", "), fmt::join(shape, ", "));
  }
  sources_[name] = {tensor, permuted_heads};
  tensors_.push_back({name, std::move(shape)});
  return absl::OkStatus();
}

void GgufLlama::Read(const std::string& name, float* out) const {
  const auto it = sources_.find(name);
  MOE_CHECK(it != sources_.end());
  const GgufTensor& tensor = *it->second.tensor;
  const int64_t rows = tensor.rows(), columns = tensor.columns();
  if (it->second.permuted_heads == 0) {
    file_.Dequantise(tensor, out, 0, rows);
    return;
  }
  // Row 2 i + j of a head in the file is row j hd/2 + i of that head.
  const int64_t head_dim = rows / it->second.permuted_heads;
  for (int64_t row = 0; row < rows; ++row) {
    const int64_t head = row / head_dim, i = row % head_dim / 2, j = row % 2;
    const int64_t target = head * head_dim + j * (head_dim / 2) + i;
    file_.Dequantise(tensor, out + target * columns, row, 1);
  }
}

}  // namespace moe::artefacts
