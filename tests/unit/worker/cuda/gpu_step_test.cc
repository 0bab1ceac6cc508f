// The step on a GPU beside the same step on HostStepKernels, which tests/numerics holds to
// autograd.
#include <ATen/core/Tensor.h>
#include <ATen/ops/randint.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <memory>
#include <string>

#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/worker/cuda/on_gpu.h"
#include "tests/unit/worker/training/tiny_run.h"
#include "worker/kernels/device/host_step_kernels.h"
#include "worker/model/arena.h"

namespace moe::cuda {
namespace {

struct StepCase {
  std::string name;
  void (*change)(artefacts::ModelConfig& config);
};

class StepOnGpu : public OnGpu, public ::testing::WithParamInterface<StepCase> {
 protected:
  void SetUp() override {
    OnGpu::SetUp();
    if (plugin_ != nullptr) gpu_ = plugin_->MakeStepKernels(0);
  }

  // Documents of several lengths, where `uniform` is not asked for.
  static model::Batch BatchOf(const artefacts::ModelConfig& config, bool uniform) {
    model::Batch batch = model::ToBatch(at::randint(config.vocab_size, {4, 48}, at::kLong));
    if (!uniform) batch.document_ends = {10, 48, 96, 101, 144, 192};
    return batch;
  }

  void Compare(model::ComputeType compute, double tolerance) {
    artefacts::ModelConfig config = training::TinyMoe();
    GetParam().change(config);
    model::Batch repeated = BatchOf(config, true);  // most experts get no token
    std::fill(repeated.tokens.begin(), repeated.tokens.end(), 7);
    for (const model::Batch& batch : {BatchOf(config, true), BatchOf(config, false), repeated}) {
      model::Model host(config, {.compute = compute, .kernels = &host_}),
          device(config, {.compute = compute, .kernels = gpu_.get()});
      const at::Tensor parameters = training::RandomParameters(config);
      const at::Tensor on_device = parameters.to(device.device());
      host.SetParameters(parameters);
      device.SetParameters(on_device);
      at::Tensor expected = at::zeros_like(parameters), gradients = at::zeros_like(on_device);
      const model::NoiseContext noise = {.seed = 3, .first_sample = 100};
      const model::LossScale scale = {.target = 1.0 / 192, .balance = 1.0};
      const model::BatchResult a = host.ForwardBackward(batch, noise, scale, expected);
      const model::BatchResult b = device.ForwardBackward(batch, noise, scale, gradients);
      EXPECT_NEAR(a.MeanLoss(), b.MeanLoss(), tolerance);
      EXPECT_NEAR(a.balance_loss, b.balance_loss, tolerance);
      for (const model::Parameter& parameter : host.layout().parameters()) {
        const at::Tensor want = model::View(expected, parameter);
        const at::Tensor got = model::View(gradients, parameter).cpu();
        EXPECT_LE(got.sub(want).norm().item<double>(), tolerance * want.norm().item<double>())
            << parameter.name << ", " << batch.document_ends.size() << " documents, first token "
            << batch.tokens.front();
      }
    }
  }

  kernels::device::HostStepKernels host_;
  std::unique_ptr<kernels::device::StepKernels> gpu_;
};

TEST_P(StepOnGpu, Fp32_EqualsTheHosts) { Compare(model::ComputeType::kFp32, 1e-4); }
TEST_P(StepOnGpu, Bf16_EqualsTheHostsWithinItsPrecision) {
  Compare(model::ComputeType::kBf16, 4e-2);
}

INSTANTIATE_TEST_SUITE_P(Models, StepOnGpu,
                         ::testing::Values(StepCase{"GroupedHeads", [](artefacts::ModelConfig&) {}},
                                           StepCase{"AKeyHeadForEveryHead",
                                                    [](artefacts::ModelConfig& c) {
                                                      c.num_kv_heads = c.num_heads;
                                                    }},
                                           StepCase{"LinearGateWithoutNoise",
                                                    [](artefacts::ModelConfig& c) {
                                                      c.moe.gate_network = "linear";
                                                      c.moe.add_noise = false;
                                                    }},
                                           StepCase{"SwitchThatDropsTokens",
                                                    [](artefacts::ModelConfig& c) {
                                                      c.moe.gate = "switch";
                                                      c.moe.top_k = 1;
                                                      c.moe.capacity_factor = 1.0;
                                                    }},
                                           StepCase{"SharedExpertAndBias",
                                                    [](artefacts::ModelConfig& c) {
                                                      c.moe.shared_width = 32;
                                                      c.moe.output_bias = true;
                                                    }},
                                           StepCase{"EightExpertsTopOne",
                                                    [](artefacts::ModelConfig& c) {
                                                      c.moe.num_experts = 8;
                                                      c.moe.top_k = 1;
                                                    }}),
                         [](const auto& info) { return info.param.name; });

using TrainerOnGpu = OnGpu;

TEST_F(TrainerOnGpu, Run_LosesAsTheCpuDoesAndResumes) {
  const TemporaryFolder folder;
  training::WriteTinyDataset(folder.File("dataset"));
  const auto gpu = plugin_->MakeStepKernels(0);
  training::TinyRun run = {.dataset_folder = folder.File("dataset"),
                           .checkpoint_folder = folder.File("cpu"),
                           .steps = 8,
                           .checkpoint_interval_steps = 4};
  training::RecordingObserver cpu, device, resumed;
  training::Train(run, cpu);
  run.kernels = gpu.get();
  run.checkpoint_folder = folder.File("gpu");
  training::Train(run, device);
  ASSERT_EQ(device.steps.size(), 8u);
  for (size_t i = 0; i < 8; ++i) EXPECT_NEAR(device.steps[i].loss, cpu.steps[i].loss, 1e-3);
  run.checkpoint_folder = folder.File("again");
  run.resume = device.checkpoints.at(0);
  training::Train(run, resumed);
  ASSERT_EQ(resumed.steps.size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(training::Fingerprint(resumed.steps[i]), training::Fingerprint(device.steps[4 + i]));
  }
}

}  // namespace
}  // namespace moe::cuda
