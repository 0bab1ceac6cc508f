// Our half of the native_export test: makes mixtures of a dense model and computes their logits.
//
//   native_export_oracle make MODEL FOLDER     FOLDER/{mixtral,qwen2-moe}/{ours,native}: the same
//                                              mixture in our format and in that architecture's
//   native_export_oracle logits FOLDER T...    logits of the token ids T, fp32 [T, V], to stdout
#include <ATen/ops/from_blob.h>
#include <fmt/format.h>

#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/file.h"
#include "common/status.h"
#include "worker/construction/build.h"
#include "worker/model/hf_export.h"
#include "worker/model/model.h"
#include "worker/model/weights.h"

namespace moe {
namespace {

constexpr uint64_t kSeed = 1227;

void Check(const absl::Status& status) {
  if (!status.ok()) throw std::runtime_error(Message(status));
}
template <typename T>
T Must(absl::StatusOr<T> value) {
  Check(value.status());
  return *std::move(value);
}

// Random experts; the neurons that the shared expert takes are the last ones.
void Make(const model::LoadedModel& dense, const artefacts::MoeConfig& moe,
          model::NativeArchitecture architecture, const std::string& folder) {
  const artefacts::ModelConfig config = Must(construction::MoeConfigFor(dense.config, moe));
  construction::Partition partition;
  for (int64_t i = 0; i < config.num_layers; ++i) {
    const int64_t routed = config.intermediate_size - moe.shared_width;
    partition.layers.push_back(
        construction::IndependentRandomLayer(i, routed, moe.num_experts, kSeed));
    for (int64_t neuron = routed; neuron < config.intermediate_size; ++neuron) {
      partition.layers.back().shared.push_back(neuron);
    }
  }
  const at::Tensor parameters =
      construction::BuildMoe(dense.config, dense.parameters, config, partition, kSeed);
  const std::string ours = JoinPath(folder, "ours"), native = JoinPath(folder, "native");
  Check(MakeDirectories(ours));
  Check(MakeDirectories(native));
  Check(model::SaveHfFolder(config, parameters, artefacts::DType::kF32, ours));
  const model::NativeModel converted = Must(model::ToNative(architecture, config, parameters));
  Check(model::SaveNativeFolder(converted, artefacts::DType::kF32, native));
  Check(model::CheckNativeFolder(converted, artefacts::DType::kF32, native));
}

void MakeAll(const std::string& model, const std::string& folder) {
  const model::LoadedModel dense = Must(model::LoadModel(model));
  artefacts::MoeConfig moe;
  moe.num_experts = 16;
  moe.top_k = 4;
  moe.gate_network = "linear";
  for (int64_t i = 0; i < dense.config.num_layers; ++i) {
    moe.layer_scale_factors.push_back(4.0 + 0.1 * static_cast<double>(i));
  }
  Make(dense, moe, model::NativeArchitecture::kMixtral, JoinPath(folder, "mixtral"));
  moe.num_experts = 14;
  moe.top_k = 2;
  moe.shared_width = dense.config.intermediate_size / 8;
  moe.dense_layers = {0, dense.config.num_layers - 1};
  Make(dense, moe, model::NativeArchitecture::kQwen2Moe, JoinPath(folder, "qwen2-moe"));
}

void PrintLogits(const std::string& folder, std::vector<int64_t> tokens) {
  const model::LoadedModel loaded = Must(model::LoadModel(folder));
  model::Model model(loaded.config, {.compute = model::ComputeType::kFp32});
  model.SetParameters(loaded.parameters);
  const at::Tensor logits = model.Logits(
      at::from_blob(tokens.data(), {1, static_cast<int64_t>(tokens.size())}, at::kLong));
  std::fwrite(logits.const_data_ptr<float>(), sizeof(float), logits.numel(), stdout);
}

int Main(const std::vector<std::string>& arguments) {
  if (arguments.size() == 3 && arguments[0] == "make") {
    MakeAll(arguments[1], arguments[2]);
    return 0;
  }
  if (arguments.size() > 2 && arguments[0] == "logits") {
    std::vector<int64_t> tokens;
    for (size_t i = 2; i < arguments.size(); ++i) tokens.push_back(std::stoll(arguments[i]));
    PrintLogits(arguments[1], std::move(tokens));
    return 0;
  }
  std::fprintf(stderr, "usage: native_export_oracle make MODEL FOLDER | logits FOLDER TOKEN...\n");
  return 2;
}

}  // namespace
}  // namespace moe

int main(int argc, char** argv) {
  try {
    return moe::Main({argv + 1, argv + argc});
  } catch (const std::exception& error) {
    std::fprintf(stderr, "native_export_oracle: %s\n", error.what());
    return 1;
  }
}
