// A run on a device, here the host's kernels of the device step, beside the same run on the CPU's
// fast path.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/worker/parallel/run_ranks.h"
#include "tests/unit/worker/training/tiny_run.h"
#include "worker/kernels/device/host_step_kernels.h"

namespace moe::training {
namespace {

using testing::SizeIs;

constexpr int64_t kCollectiveTimeoutMs = 60'000;

class DeviceTrainerTest : public testing::Test {
 protected:
  DeviceTrainerTest() { WriteTinyDataset(folder_.File("dataset")); }

  TinyRun NewRun(const std::string& attempt) {
    return {.dataset_folder = folder_.File("dataset"),
            .checkpoint_folder = folder_.File(attempt),
            .steps = 8,
            .checkpoint_interval_steps = 4};
  }
  TinyRun OnDevice(TinyRun run) {
    run.kernels = &kernels_;
    return run;
  }

  static void ExpectSameLosses(const RecordingObserver& a, const RecordingObserver& b,
                               double tolerance) {
    ASSERT_EQ(a.steps.size(), b.steps.size());
    for (size_t i = 0; i < a.steps.size(); ++i) {
      const StepReport &x = a.steps[i], &y = b.steps[i];
      EXPECT_NEAR(x.loss, y.loss, tolerance) << "step " << x.step;
      EXPECT_NEAR(x.balance_loss, y.balance_loss, tolerance) << "step " << x.step;
      EXPECT_NEAR(x.gradient_norm, y.gradient_norm, tolerance * x.gradient_norm)
          << "step " << x.step;
      EXPECT_EQ(x.batch_crc32c, y.batch_crc32c) << "step " << x.step;
    }
  }

  const TemporaryFolder folder_;
  kernels::device::HostStepKernels kernels_;
};

TEST_F(DeviceTrainerTest, Losses_AreThoseOfTheFastPath) {
  TinyRun run = NewRun("cpu");
  run.validation = {.interval_steps = 4, .heldout_samples = 4};
  run.weight_average = {.decay = 0.9, .start_step = 2};
  run.learning_rate_ratios = {{"gates", 0.5}, {"embeddings", 0.0}};
  TinyRun device_run = OnDevice(run);
  device_run.checkpoint_folder = folder_.File("device");
  RecordingObserver cpu, device;
  Train(run, cpu);
  Train(device_run, device);
  ExpectSameLosses(cpu, device, 1e-4);
  ASSERT_THAT(device.steps, SizeIs(8));
  for (size_t domain = 0; domain < 2; ++domain) {
    ASSERT_TRUE(device.steps.back().domains[domain].heldout_loss.has_value());
    EXPECT_NEAR(*device.steps.back().domains[domain].heldout_loss,
                *cpu.steps.back().domains[domain].heldout_loss, 1e-4);
  }
}

TEST_F(DeviceTrainerTest, WithDocumentsApart_LossesAreThoseOfTheFastPath) {
  TinyRun run = NewRun("cpu");
  run.attention = evaluation::AttentionScope::kDocument;
  TinyRun device_run = OnDevice(run);
  device_run.checkpoint_folder = folder_.File("device");
  RecordingObserver cpu, device;
  Train(run, cpu);
  Train(device_run, device);
  ExpectSameLosses(cpu, device, 1e-4);
}

TEST_F(DeviceTrainerTest, Resume_SameBitsAsTheUndisturbedRun) {
  const TinyRun run = OnDevice(NewRun("a"));
  RecordingObserver undisturbed, resumed;
  Train(run, undisturbed);
  ASSERT_THAT(undisturbed.checkpoints, SizeIs(2));
  TinyRun again = run;
  again.checkpoint_folder = folder_.File("b");
  again.resume = undisturbed.checkpoints[0];
  Train(again, resumed);
  ASSERT_THAT(resumed.steps, SizeIs(4));
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(Fingerprint(resumed.steps[i]), Fingerprint(undisturbed.steps[4 + i]));
  }
}

TEST_F(DeviceTrainerTest, CheckpointOfADevice_GoesOnOnTheCpu) {
  const TinyRun run = OnDevice(NewRun("a"));
  RecordingObserver device, cpu;
  Train(run, device);
  TinyRun moved = NewRun("b");
  moved.resume = device.checkpoints.at(0);
  Train(moved, cpu);
  ASSERT_THAT(cpu.steps, SizeIs(4));
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_NEAR(cpu.steps[i].loss, device.steps[4 + i].loss, 1e-4);
  }
}

TEST_F(DeviceTrainerTest, TwoRanks_LossesAreThoseOfOne) {
  RecordingObserver one, two;
  Train(OnDevice(NewRun("one")), one);
  const TinyRun run = OnDevice(NewRun("two"));
  parallel::RunRanks(2, kCollectiveTimeoutMs, [&](parallel::Communicator& communicator) {
    RecordingObserver other;
    Train(run, communicator, communicator.rank() == 0 ? two : other);
  });
  ExpectSameLosses(one, two, 1e-4);
}

TEST_F(DeviceTrainerTest, SharedOutExperts_AreRefused) {
  TinyRun run = OnDevice(NewRun("a"));
  run.expert_parallel = 2;
  RecordingObserver observer;
  EXPECT_THAT([&] { Train(run, observer); },
              testing::ThrowsMessage<std::invalid_argument>(
                  testing::HasSubstr("experts are shared out among CPU ranks only")));
}

}  // namespace
}  // namespace moe::training
