#include "worker/model/weights.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/zeros.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <functional>

#include "common/file.h"
#include "common/json.h"
#include "common/philox.h"
#include "common/status.h"
#include "storage/artefacts/manifest.h"
#include "worker/model/arena.h"
#include "worker/model/hf_export.h"
#include "worker/model/hf_names.h"
#include "worker/model/hf_writer.h"
#include "worker/model/state_files.h"

namespace moe::model {
namespace {

using artefacts::DType;
using artefacts::SafetensorsWriter;
using ::testing::AllOf;
using ::testing::HasSubstr;

artefacts::ModelConfig DenseConfig() {
  return {.vocab_size = 37,
          .hidden_size = 24,
          .intermediate_size = 48,
          .num_layers = 2,
          .num_heads = 4,
          .num_kv_heads = 2,
          .head_dim = 6,
          .context_length = 64,
          .tie_word_embeddings = true,
          .bos_token_id = 1,
          .eos_token_id = 2,
          .moe = {}};
}

artefacts::ModelConfig UntiedConfig() {
  artefacts::ModelConfig config = DenseConfig();
  config.tie_word_embeddings = false;
  return config;
}

artefacts::ModelConfig MoeConfig(const std::string& gate_network) {
  artefacts::ModelConfig config = UntiedConfig();
  config.moe = {.num_experts = 6,
                .top_k = 2,
                .expert_width = 8,
                .gate_network = gate_network,
                .score_scale_factor = 3.0};
  return config;
}

artefacts::ModelConfig ExtendedConfig() {
  artefacts::ModelConfig config = MoeConfig("linear");
  config.num_layers = 3;
  config.moe.learn_scale = true;
  config.moe.shared_width = 20;
  config.moe.dense_layers = {1};
  config.moe.output_bias = true;
  return config;
}

// Every parameter random, padding zero.
at::Tensor RandomArena(const artefacts::ModelConfig& config) {
  const ParameterLayout layout(config);
  at::Tensor arena = at::zeros({layout.arena_numel()}, at::kFloat);
  for (const Parameter& parameter : layout.parameters()) {
    float* values = View(arena, parameter).mutable_data_ptr<float>();
    for (int64_t i = 0; i < parameter.numel; ++i) {
      values[i] = Normal4(Philox(7, RandomStream::kTest, 0, parameter.offset + i))[0];
    }
  }
  return arena;
}

class WeightsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    folder_ = ::testing::TempDir() + "weights_test." + std::to_string(getpid()) + "." +
              ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::replace(folder_.begin() + 1, folder_.end(), ' ', '_');
    ASSERT_TRUE(MakeDirectories(folder_).ok());
  }
  void TearDown() override { EXPECT_TRUE(RemoveTree(folder_).ok()); }

  std::string Path(const std::string& name) const { return JoinPath(folder_, name); }

  void Save(const artefacts::ModelConfig& config, const at::Tensor& arena, DType dtype,
            uint64_t max_shard_bytes = kMaxShardBytes) {
    const absl::Status status = SaveHfFolder(config, arena, dtype, folder_, max_shard_bytes);
    ASSERT_TRUE(status.ok()) << ToString(status);
  }

  // A folder with `config`'s config.json and model.safetensors holding zeros for the tensors that
  // are left after `change`.
  void WriteFolder(const artefacts::ModelConfig& config,
                   const std::function<void(std::vector<SafetensorsWriter::Entry>&)>& change) {
    std::vector<SafetensorsWriter::Entry> entries;
    for (const HfTensor& tensor : HfTensors(config, ParameterLayout(config))) {
      entries.push_back({tensor.name, DType::kF32, tensor.shape});
    }
    change(entries);
    auto writer = SafetensorsWriter::Create(Path("model.safetensors"), entries, {});
    ASSERT_TRUE(writer.ok()) << ToString(writer.status());
    for (const SafetensorsWriter::Entry& entry : entries) {
      int64_t numel = 1;
      for (const int64_t extent : entry.shape) numel *= extent;
      const std::vector<uint8_t> zeros(numel * artefacts::DTypeSize(entry.dtype));
      ASSERT_TRUE((*writer)->Append(zeros.data(), zeros.size()).ok());
    }
    ASSERT_TRUE((*writer)->Finish().ok());
    ASSERT_TRUE(
        WriteFileAtomically(Path("config.json"), artefacts::ToHfConfig(config, "float32").dump())
            .ok());
  }

  std::string LoadError() const {
    const auto loaded = LoadModel(folder_);
    return loaded.ok() ? "loaded" : ToString(loaded.status());
  }

  std::string folder_;
};

struct Case {
  const char* name;
  artefacts::ModelConfig config;
};

class HfRoundTripTest : public WeightsTest, public ::testing::WithParamInterface<Case> {};

TEST_P(HfRoundTripTest, HfTensors_CoverEveryParameterOnce) {
  const ParameterLayout layout(GetParam().config);
  std::vector<int> covered(layout.arena_numel());
  for (const HfTensor& tensor : HfTensors(GetParam().config, layout)) {
    for (int64_t i = 0; i < tensor.numel; ++i) ++covered[tensor.offset + i];
  }
  for (const Parameter& parameter : layout.parameters()) {
    for (int64_t i = 0; i < parameter.numel; ++i) {
      ASSERT_EQ(covered[parameter.offset + i], 1) << parameter.name << "[" << i << "]";
    }
  }
  EXPECT_EQ(std::count(covered.begin(), covered.end(), 1), layout.total_parameters());
}

TEST_P(HfRoundTripTest, SaveThenLoad_Fp32_GivesTheSameBits) {
  const at::Tensor arena = RandomArena(GetParam().config);
  Save(GetParam().config, arena, DType::kF32);

  const auto loaded = LoadModel(folder_);
  ASSERT_TRUE(loaded.ok()) << ToString(loaded.status());
  EXPECT_TRUE(at::equal(loaded->parameters, arena));
  EXPECT_EQ(loaded->stored_dtype, DType::kF32);
  EXPECT_EQ(loaded->tokenizer_path, folder_);
  EXPECT_EQ(loaded->config.moe.num_experts, GetParam().config.moe.num_experts);
}

TEST_P(HfRoundTripTest, SaveThenLoad_Shards_GivesTheSameBits) {
  const at::Tensor arena = RandomArena(GetParam().config);
  Save(GetParam().config, arena, DType::kF32, /*max_shard_bytes=*/20'000);
  ASSERT_TRUE(FileExists(Path("model.safetensors.index.json")));
  ASSERT_FALSE(FileExists(Path("model.safetensors")));

  const auto loaded = LoadModel(folder_);
  ASSERT_TRUE(loaded.ok()) << ToString(loaded.status());
  EXPECT_TRUE(at::equal(loaded->parameters, arena));
  const absl::Status same = CheckHfFolder(GetParam().config, arena, DType::kF32, folder_);
  EXPECT_TRUE(same.ok()) << ToString(same);
}

TEST_P(HfRoundTripTest, SaveThenLoad_HalfPrecision_RoundsAsTorchDoes) {
  const at::Tensor arena = RandomArena(GetParam().config);
  for (const auto& [dtype, torch_type] :
       {std::pair(DType::kBf16, at::kBFloat16), std::pair(DType::kF16, at::kHalf)}) {
    Save(GetParam().config, arena, dtype);
    const auto loaded = LoadModel(folder_);
    ASSERT_TRUE(loaded.ok()) << ToString(loaded.status());
    EXPECT_TRUE(at::equal(loaded->parameters, arena.to(torch_type).to(at::kFloat)));
    EXPECT_EQ(loaded->stored_dtype, dtype);
  }
}

INSTANTIATE_TEST_SUITE_P(Models, HfRoundTripTest,
                         ::testing::Values(Case{"DenseTied", DenseConfig()},
                                           Case{"DenseUntied", UntiedConfig()},
                                           Case{"MlpGate", MoeConfig("mlp")},
                                           Case{"LinearGate", MoeConfig("linear")},
                                           Case{"Extended", ExtendedConfig()}),
                         [](const auto& info) { return std::string(info.param.name); });

TEST_F(WeightsTest, HfTensors_OfDense_PutQueryKeyValueInOneParameter) {
  const artefacts::ModelConfig config = DenseConfig();
  const ParameterLayout layout(config);
  const Parameter& qkv = layout.Find("layers.1.qkv");
  int64_t next = qkv.offset;
  for (const char* part : {"q_proj", "k_proj", "v_proj"}) {
    const std::string name = std::string("model.layers.1.self_attn.") + part + ".weight";
    const std::vector<HfTensor> tensors = HfTensors(config, layout);
    const auto it = std::find_if(tensors.begin(), tensors.end(),
                                 [&](const HfTensor& t) { return t.name == name; });
    ASSERT_NE(it, tensors.end()) << name;
    EXPECT_EQ(it->offset, next);
    next += it->numel;
  }
  EXPECT_EQ(next, qkv.offset + qkv.numel);
}

TEST_F(WeightsTest, LoadModel_NoSuchPath_IsNotFound) {
  EXPECT_EQ(LoadModel(Path("nothing")).status().code(), absl::StatusCode::kNotFound);
}

TEST_F(WeightsTest, LoadModel_TensorMissing_NamesIt) {
  WriteFolder(DenseConfig(), [](auto& entries) { entries.pop_back(); });
  EXPECT_THAT(LoadError(), AllOf(HasSubstr("INVALID_ARGUMENT"), HasSubstr(folder_),
                                 HasSubstr("model.norm.weight"), HasSubstr("missing")));
}

TEST_F(WeightsTest, LoadModel_TensorTooMany_NamesIt) {
  WriteFolder(DenseConfig(), [](auto& entries) {
    entries.push_back({"model.layers.2.mlp.up_proj.weight", DType::kF32, {48, 24}});
  });
  EXPECT_THAT(LoadError(), AllOf(HasSubstr("model.layers.2.mlp.up_proj.weight"),
                                 HasSubstr("[48, 24]"), HasSubstr("not part of the model")));
}

TEST_F(WeightsTest, LoadModel_WrongShape_NamesBothShapes) {
  WriteFolder(DenseConfig(), [](auto& entries) { entries[0].shape = {38, 24}; });
  EXPECT_THAT(LoadError(), AllOf(HasSubstr("model.safetensors"), HasSubstr("embed_tokens"),
                                 HasSubstr("[38, 24]"), HasSubstr("[37, 24]")));
}

TEST_F(WeightsTest, LoadModel_IntegerWeights_AreRefused) {
  WriteFolder(DenseConfig(), [](auto& entries) { entries[0].dtype = DType::kI32; });
  EXPECT_THAT(LoadError(), AllOf(HasSubstr("embed_tokens"), HasSubstr("I32")));
}

TEST_F(WeightsTest, LoadModel_ComputedBuffersAndTiedOutput_AreIgnored) {
  WriteFolder(DenseConfig(), [](auto& entries) {
    entries.push_back({"model.layers.0.self_attn.rotary_emb.inv_freq", DType::kF32, {3}});
    entries.push_back({"lm_head.weight", DType::kF32, {37, 24}});
  });
  EXPECT_EQ(LoadError(), "loaded");
}

TEST_F(WeightsTest, HfWriter_Finish_GivesTheChecksumsOfItsFiles) {
  const artefacts::ModelConfig config = DenseConfig();
  const std::vector<HfTensor> tensors = HfTensors(config, ParameterLayout(config));
  HfWriter writer(tensors, DType::kF32, folder_, /*max_shard_bytes=*/20'000);
  for (const HfTensor& tensor : tensors) {
    const std::vector<float> values(tensor.numel, 0.5f);
    ASSERT_TRUE(
        writer
            .Append(reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(float))
            .ok());
  }
  const auto files = writer.Finish();
  ASSERT_TRUE(files.ok()) << Message(files.status());
  EXPECT_GT(files->size(), 1u);
  for (const artefacts::ManifestFile& written : *files) {
    const auto found = artefacts::DescribeFile(folder_, written.path);
    ASSERT_TRUE(found.ok()) << Message(found.status());
    EXPECT_EQ(found->size_bytes, written.size_bytes) << written.path;
    EXPECT_EQ(found->crc32c, written.crc32c) << written.path;
  }
}

TEST_F(WeightsTest, LoadModel_IndexNamesShardWithoutTheTensor_IsRefused) {
  Save(DenseConfig(), RandomArena(DenseConfig()), DType::kF32, /*max_shard_bytes=*/20'000);
  const std::string path = Path("model.safetensors.index.json");
  Json index = *ReadJsonFile(path);
  Json& weight_map = index["weight_map"];
  ASSERT_NE(weight_map["model.norm.weight"], weight_map["model.embed_tokens.weight"]);
  weight_map["model.norm.weight"] = weight_map["model.embed_tokens.weight"];
  ASSERT_TRUE(WriteFileAtomically(path, index.dump()).ok());
  EXPECT_THAT(LoadError(), AllOf(HasSubstr("INVALID_ARGUMENT"), HasSubstr("model.norm.weight")));
}

TEST_F(WeightsTest, LoadModel_IndexPointsOutOfTheFolder_IsRefused) {
  Save(DenseConfig(), RandomArena(DenseConfig()), DType::kF32, /*max_shard_bytes=*/20'000);
  const std::string path = Path("model.safetensors.index.json");
  Json index = *ReadJsonFile(path);
  index["weight_map"]["model.norm.weight"] = "../model.safetensors";
  ASSERT_TRUE(WriteFileAtomically(path, index.dump()).ok());
  EXPECT_THAT(LoadError(), HasSubstr("../model.safetensors"));
}

TEST_F(WeightsTest, LoadModel_PyTorchBinFiles_SaysWhatToDo) {
  Save(DenseConfig(), RandomArena(DenseConfig()), DType::kF32);
  std::filesystem::rename(Path("model.safetensors"), Path("pytorch_model.bin"));
  EXPECT_THAT(LoadError(), AllOf(HasSubstr("NOT_FOUND"), HasSubstr("safetensors")));
}

TEST_F(WeightsTest, SaveHfFolder_ValueBeyondFp16_NamesTensorAndValue) {
  at::Tensor arena = RandomArena(DenseConfig());
  const ParameterLayout layout(DenseConfig());
  arena.mutable_data_ptr<float>()[layout.Find("norm").offset + 5] = 1e5f;
  const absl::Status status = SaveHfFolder(DenseConfig(), arena, DType::kF16, folder_);
  EXPECT_THAT(ToString(status),
              AllOf(HasSubstr("INVALID_ARGUMENT"), HasSubstr("model.norm.weight[5] = 100000")));
}

TEST_F(WeightsTest, CheckHfFolder_OneBitFlipped_NamesTheTensor) {
  const at::Tensor arena = RandomArena(DenseConfig());
  Save(DenseConfig(), arena, DType::kBf16);
  ASSERT_TRUE(CheckHfFolder(DenseConfig(), arena, DType::kBf16, folder_).ok());

  std::fstream file(Path("model.safetensors"), std::ios::in | std::ios::out | std::ios::binary);
  file.seekg(-1, std::ios::end);
  const char last = static_cast<char>(file.get());
  file.seekp(-1, std::ios::end);
  file.put(static_cast<char>(last ^ 1));
  file.close();
  const absl::Status status = CheckHfFolder(DenseConfig(), arena, DType::kBf16, folder_);
  EXPECT_THAT(ToString(status), AllOf(HasSubstr("DATA_LOSS"), HasSubstr("model.norm.weight")));
}

class CheckpointFolderTest : public WeightsTest {
 protected:
  void SetUp() override {
    WeightsTest::SetUp();
    arena_ = RandomArena(config_);
    ASSERT_TRUE(
        WriteFileAtomically(Path("config.json"), artefacts::ToHfConfig(config_, "float32").dump())
            .ok());
  }
  void WriteState(int rank, int64_t begin, int64_t end) {
    auto writer = CreateStateFile(Path(StateFileName(rank, 2)), {{begin, end}}, arena_.numel());
    ASSERT_TRUE(writer.ok()) << ToString(writer.status());
    const std::vector<float> moments(2 * (end - begin), 0.5f);
    const size_t bytes = (end - begin) * sizeof(float);
    ASSERT_TRUE((*writer)->Append(arena_.const_data_ptr<float>() + begin, bytes).ok());
    ASSERT_TRUE((*writer)->Append(moments.data(), 2 * bytes).ok());
    ASSERT_TRUE((*writer)->Finish().ok());
  }

  const artefacts::ModelConfig config_ = MoeConfig("mlp");
  at::Tensor arena_;
};

TEST_F(CheckpointFolderTest, LoadModel_OfTwoRanks_JoinsTheirRanges) {
  WriteState(0, 0, 6400);
  WriteState(1, 6400, arena_.numel());
  const auto loaded = LoadModel(folder_);
  ASSERT_TRUE(loaded.ok()) << ToString(loaded.status());
  EXPECT_TRUE(at::equal(loaded->parameters, arena_));
}

TEST_F(CheckpointFolderTest, LoadModel_OfRanksThatShareExperts_JoinsTheirRanges) {
  for (const int rank : {0, 1}) {
    const ParameterLayout layout(config_, {.index = rank, .count = 2});
    // Rank 0 the first half of what both have, rank 1 the second; each its own experts.
    const auto [begin, end] = layout.RegionRange(Region::kReplicated);
    const int64_t middle = end / 2 / 64 * 64;
    std::vector<ParameterLayout::Range> ranges = layout.WholeRanges(
        rank == 0 ? ParameterLayout::Range{begin, middle} : ParameterLayout::Range{middle, end});
    for (const auto& range : layout.WholeRanges(layout.RegionRange(Region::kExperts))) {
      ranges.push_back(range);
    }
    auto writer = CreateStateFile(Path(StateFileName(rank, 2)), ranges, arena_.numel());
    ASSERT_TRUE(writer.ok()) << ToString(writer.status());
    for (int tensor = 0; tensor < 3; ++tensor) {
      for (const auto& range : ranges) {
        const size_t bytes = (range.end - range.begin) * sizeof(float);
        ASSERT_TRUE((*writer)->Append(arena_.const_data_ptr<float>() + range.begin, bytes).ok());
      }
    }
    ASSERT_TRUE((*writer)->Finish().ok());
  }
  const auto loaded = LoadModel(folder_);
  ASSERT_TRUE(loaded.ok()) << ToString(loaded.status());
  EXPECT_TRUE(at::equal(loaded->parameters, arena_));

  // A part of the experts is read alone.
  const ParameterLayout layout(config_, {.index = 1, .count = 2});
  const auto part = LoadModel(folder_, WhichWeights::kLatest, layout.share());
  ASSERT_TRUE(part.ok()) << ToString(part.status());
  ASSERT_EQ(part->parameters.numel(), layout.arena_numel());
  for (const Parameter& parameter : layout.parameters()) {
    EXPECT_TRUE(at::equal(part->parameters.narrow(0, parameter.offset, parameter.numel),
                          arena_.narrow(0, parameter.whole_offset, parameter.numel)))
        << parameter.name;
  }
}

TEST_F(CheckpointFolderTest, LoadModel_StateFileMissing_IsDataLoss) {
  WriteState(1, 6400, arena_.numel());
  EXPECT_THAT(LoadError(), AllOf(HasSubstr("DATA_LOSS"), HasSubstr("6400"), HasSubstr("missing")));
}

}  // namespace
}  // namespace moe::model
