#include "storage/artefacts/gguf_llama.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <numeric>

#include "common/file.h"
#include "common/status.h"
#include "storage/artefacts/safetensors.h"
#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/storage/gguf_builder.h"

namespace moe::artefacts {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

// 2 heads of width 4 with one shared key/value head, FFN width 3, vocabulary 5, one layer. Every
// tensor counts 0, 1, 2, ...
GgufBuilder TinyLlama(bool tied = true) {
  GgufBuilder builder;
  builder.String("general.architecture", "llama")
      .Uint32("llama.embedding_length", 8)
      .Uint32("llama.block_count", 1)
      .Uint32("llama.feed_forward_length", 3)
      .Uint32("llama.attention.head_count", 2)
      .Uint32("llama.attention.head_count_kv", 1)
      .Uint32("llama.context_length", 16)
      .Float32("llama.attention.layer_norm_rms_epsilon", 1e-5f)
      .Strings("tokenizer.ggml.tokens", {"a", "b", "c", "d", "e"});
  const auto counting = [&](const std::string& name, std::vector<uint64_t> shape) {
    size_t numel = 1;
    for (const uint64_t size : shape) numel *= size;
    std::vector<float> values(numel);
    std::iota(values.begin(), values.end(), 0.0f);
    builder.Floats(name, std::move(shape), values);
  };
  counting("token_embd.weight", {5, 8});
  counting("blk.0.attn_norm.weight", {8});
  counting("blk.0.attn_q.weight", {8, 8});
  counting("blk.0.attn_k.weight", {4, 8});
  counting("blk.0.attn_v.weight", {4, 8});
  counting("blk.0.attn_output.weight", {8, 8});
  counting("blk.0.ffn_norm.weight", {8});
  counting("blk.0.ffn_gate.weight", {3, 8});
  counting("blk.0.ffn_up.weight", {3, 8});
  counting("blk.0.ffn_down.weight", {8, 3});
  counting("output_norm.weight", {8});
  if (!tied) counting("output.weight", {5, 8});
  return builder;
}

class GgufLlamaTest : public testing::Test {
 protected:
  absl::StatusOr<GgufLlama> Open(const GgufBuilder& builder) {
    return GgufLlama::Open(folder_.Write("model.gguf", builder.Build()));
  }
  void ExpectRefused(const GgufBuilder& builder, const std::string& message) {
    const auto model = Open(builder);
    EXPECT_EQ(model.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(Message(model.status()), HasSubstr(message));
  }
  TemporaryFolder folder_;
};

// The first value of every row, divided by the row length: the row it was in the file.
std::vector<int64_t> SourceRows(const GgufLlama& model, const std::string& name, int64_t rows) {
  std::vector<float> values(static_cast<size_t>(rows * 8));
  model.Read(name, values.data());
  std::vector<int64_t> result;
  for (int64_t row = 0; row < rows; ++row) {
    result.push_back(static_cast<int64_t>(values[static_cast<size_t>(row * 8)]) / 8);
  }
  return result;
}

TEST_F(GgufLlamaTest, Read_UndoesThePermutationOfQueryAndKeyRowsOnly) {
  const auto model = Open(TinyLlama());
  ASSERT_TRUE(model.ok()) << ToString(model.status());
  // Per head of width 4, the file has rows 0, 2, 1, 3 of the original.
  EXPECT_THAT(SourceRows(*model, "model.layers.0.self_attn.q_proj.weight", 8),
              ElementsAre(0, 2, 1, 3, 4, 6, 5, 7));
  EXPECT_THAT(SourceRows(*model, "model.layers.0.self_attn.k_proj.weight", 4),
              ElementsAre(0, 2, 1, 3));
  EXPECT_THAT(SourceRows(*model, "model.layers.0.self_attn.v_proj.weight", 4),
              ElementsAre(0, 1, 2, 3));
}

TEST_F(GgufLlamaTest, Open_ListsTheTensorsInTheOrderOfTheModel) {
  const auto model = Open(TinyLlama(/*tied=*/false));
  ASSERT_TRUE(model.ok()) << ToString(model.status());
  ASSERT_EQ(model->tensors().size(), 12u);
  EXPECT_EQ(model->tensors().front().name, "model.embed_tokens.weight");
  EXPECT_THAT(model->tensors().front().shape, ElementsAre(5, 8));
  EXPECT_EQ(model->tensors()[9].name, "model.layers.0.mlp.down_proj.weight");
  EXPECT_THAT(model->tensors()[9].shape, ElementsAre(8, 3));
  EXPECT_EQ(model->tensors().back().name, "lm_head.weight");
  EXPECT_FALSE(model->config().tie_word_embeddings);
  EXPECT_EQ(model->config().vocab_size, 5);
}

TEST_F(GgufLlamaTest, Open_WrongTensors_AreRefused) {
  GgufBuilder builder = TinyLlama();
  builder.tensors.pop_back();
  ExpectRefused(builder, "tensor output_norm.weight is missing");
  builder = TinyLlama();
  builder.Floats("blk.0.attn_q.bias", {8}, std::vector<float>(8));
  ExpectRefused(builder, "tensor blk.0.attn_q.bias has no place in a LLaMA of 1 layers");
  builder = TinyLlama();
  builder.tensors[2].shape = {4, 16};
  ExpectRefused(builder,
                "tensor blk.0.attn_q.weight has the shape [4, 16], the metadata says [8, 8]");
}

TEST_F(GgufLlamaTest, Open_ModelsThatAreNoPlainLlama_AreRefused) {
  GgufBuilder builder = TinyLlama();
  builder.pairs.erase(builder.pairs.begin());
  builder.String("general.architecture", "qwen2");
  ExpectRefused(builder, "general.architecture is 'qwen2'; only llama is supported");
  ExpectRefused(TinyLlama().Uint32("llama.expert_count", 8), "llama.expert_count=8");
  ExpectRefused(TinyLlama().String("llama.rope.scaling.type", "yarn"), "'yarn'");
  ExpectRefused(TinyLlama().Floats("rope_freqs.weight", {2}, {1, 1}), "rope_freqs.weight");
  ExpectRefused(TinyLlama().Uint32("llama.rope.dimension_count", 2),
                "llama.rope.dimension_count=2 of head_dim=4");
}

TEST_F(GgufLlamaTest, ReadModelConfig_OfAGgufFile_KeepsTheNumbersAsWritten) {
  GgufBuilder builder = TinyLlama();
  builder.Float32("llama.rope.freq_base", 100000.0f)
      .Uint32("tokenizer.ggml.bos_token_id", 1)
      .Uint32("tokenizer.ggml.eos_token_id", 2);
  const auto config = ReadModelConfig(folder_.Write("model.gguf", builder.Build()));
  ASSERT_TRUE(config.ok()) << ToString(config.status());
  EXPECT_EQ(config->rms_norm_eps, 1e-5);
  EXPECT_EQ(config->rope_theta, 100000.0);
  EXPECT_EQ(config->head_dim, 4);
  EXPECT_EQ(config->num_kv_heads, 1);
  EXPECT_EQ(config->context_length, 16);
  EXPECT_EQ(config->bos_token_id, 1);
  EXPECT_EQ(config->eos_token_id, 2);
  EXPECT_TRUE(config->tie_word_embeddings);
  EXPECT_FALSE(config->is_moe());
}

std::string FromEnvironmentOr(const char* variable, const std::string& fallback) {
  const char* value = std::getenv(variable);
  return value != nullptr ? value : fallback;
}

// The whole way from a real file: values and row order against the packages that define them.
TEST_F(GgufLlamaTest, Read_OfARealModel_GivesTheBitsOfTheReference) {
  const std::string cache =
      FromEnvironmentOr("MOE_CACHE_DIR", FromEnvironmentOr("HOME", "") + "/.cache/moe");
  const std::string model_path = cache + "/models/smollm2-135m-instruct-q4_1.gguf";
  const std::string python = cache + "/oracle-venv/bin/python";
  if (!FileExists(model_path))
    GTEST_SKIP() << "no " << model_path << "; deploy/quickstart.sh gets it";
  if (!FileExists(python))
    GTEST_SKIP() << "no " << python << "; deploy/install_deps.sh test makes it";
  const std::string reference_path = folder_.File("reference.safetensors");
  const std::string script =
      FromEnvironmentOr("MOE_SOURCE_DIR", ".") + "/tests/unit/storage/oracle.py";
  const std::string command = fmt::format("'{}' '{}' dequantise '{}' '{}' 0 29", python, script,
                                          model_path, reference_path);
  ASSERT_EQ(std::system(command.c_str()), 0) << command;

  const auto model = GgufLlama::Open(model_path);
  ASSERT_TRUE(model.ok()) << ToString(model.status());
  EXPECT_EQ(model->tensors().size(), 272u);
  const auto reference = SafetensorsFile::Open(reference_path);
  ASSERT_TRUE(reference.ok()) << ToString(reference.status());
  int compared = 0;
  for (const GgufLlamaTensor& tensor : model->tensors()) {
    const TensorInfo* expected = reference->Find(tensor.name);
    if (expected == nullptr) continue;
    ASSERT_EQ(expected->shape, tensor.shape) << tensor.name;
    std::vector<float> values(static_cast<size_t>(tensor.numel()));
    model->Read(tensor.name, values.data());
    EXPECT_EQ(std::memcmp(values.data(), reference->data(*expected), expected->size_bytes), 0)
        << tensor.name;
    ++compared;
  }
  EXPECT_EQ(compared, 2 + 2 * 9);  // embeddings, last norm, two layers
}

}  // namespace
}  // namespace moe::artefacts
