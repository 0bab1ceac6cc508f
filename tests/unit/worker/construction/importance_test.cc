#include "worker/construction/importance.h"

#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "common/philox.h"
#include "worker/model/arena.h"

namespace moe::construction {
namespace {

artefacts::ModelConfig Dense() {
  return {.vocab_size = 50,
          .hidden_size = 16,
          .intermediate_size = 24,
          .num_layers = 2,
          .num_heads = 2,
          .num_kv_heads = 1,
          .head_dim = 8,
          .context_length = 64,
          .tie_word_embeddings = true,
          .moe = {}};
}

at::Tensor RandomParameters(const artefacts::ModelConfig& config) {
  const int64_t numel = model::ParameterLayout(config).arena_numel();
  at::Tensor values = at::zeros({numel}, at::kFloat);
  float* out = values.mutable_data_ptr<float>();
  for (int64_t i = 0; i < numel; ++i) {
    out[i] = 0.3f * Normal4(Philox(3, RandomStream::kTest, 0, i))[0];
  }
  return values;
}

at::Tensor Sample(int64_t length, uint32_t stream) {
  PhiloxGenerator generator(4, RandomStream::kTest, stream);
  at::Tensor sample = at::zeros({length}, at::kLong);
  for (int64_t i = 0; i < length; ++i) {
    sample.mutable_data_ptr<int64_t>()[i] = static_cast<int64_t>(generator.Below(50));
  }
  return sample;
}

bool GoOn(int64_t) { return true; }

class ImportanceTest : public ::testing::Test {
 protected:
  Scores Measure(const std::vector<TextGroup>& groups, const ImportanceOptions& options,
                 int64_t layer) {
    return MeasureImportance(config_, parameters_, groups, options, GoOn).at(layer);
  }

  // Per neuron, the inner product of weights and their gradients, by the trainer's backward:
  // columns of the down projection or rows of the gate projection. It is the sum over tokens of
  // value x gradient at the input of the one and the output of the other.
  std::vector<double> WeightsTimesGradients(const at::Tensor& sample, int64_t layer, bool down) {
    model::Model model(config_, {.compute = model::ComputeType::kFp32});
    model.SetParameters(parameters_);
    at::Tensor gradients = at::zeros({parameters_.numel()}, at::kFloat);
    model.ForwardBackward(sample.unsqueeze(0), {}, 1.0, gradients);
    const std::string name = "layers." + std::to_string(layer) + (down ? ".down" : ".gate_up");
    const model::Parameter& parameter = model.layout().Find(name);
    const at::Tensor products =
        model::View(parameters_, parameter).mul(model::View(gradients, parameter));
    const at::Tensor sums = down ? products.sum(0) : products.sum(1);
    std::vector<double> result;
    for (int64_t n = 0; n < config_.intermediate_size; ++n) {
      result.push_back(sums[n].item<double>());
    }
    return result;
  }

  const artefacts::ModelConfig config_ = Dense();
  const at::Tensor parameters_ = RandomParameters(config_);
};

TEST_F(ImportanceTest, Total_EqualsWeightsTimesTheirGradients) {
  const at::Tensor sample = Sample(20, 1);
  for (const bool up : {true, false}) {
    for (int64_t layer = 0; layer < 2; ++layer) {
      const Scores scores = Measure({{sample}},
                                    {.projection = up ? Projection::kUp : Projection::kGate,
                                     .kernel = Kernel::kPlain,
                                     .accumulate = Accumulate::kTotal},
                                    layer);
      const std::vector<double> expected = WeightsTimesGradients(sample, layer, up);
      const double largest =
          std::abs(*std::max_element(expected.begin(), expected.end(),
                                     [](double a, double b) { return std::abs(a) < std::abs(b); }));
      for (size_t n = 0; n < expected.size(); ++n) {
        EXPECT_NEAR(scores[0][n] * 19, expected[n], 1e-4 * largest)
            << n << " " << layer << " " << up;
      }
    }
  }
}

// In a sample of two tokens only the first predicts anything, so there is one term in each sum.
TEST_F(ImportanceTest, OneTarget_KernelsAgreeWithTheTotal) {
  const at::Tensor sample = Sample(2, 2);
  const std::vector<double> expected = WeightsTimesGradients(sample, 1, /*down=*/true);
  const Scores l1 = Measure({{sample}}, {}, 1);
  const Scores l2 = Measure({{sample}}, {.kernel = Kernel::kL2}, 1);
  double largest = 0;
  for (const double value : expected) largest = std::max(largest, std::abs(value));
  ASSERT_GT(largest, 0);
  for (size_t n = 0; n < expected.size(); ++n) {
    EXPECT_NEAR(l1[0][n], std::abs(expected[n]), 1e-4 * largest);
    EXPECT_NEAR(l2[0][n], expected[n] * expected[n], 1e-4 * largest * largest);
  }
}

TEST_F(ImportanceTest, Groups_AreKeptApart_AndDividedByAllTargets) {
  const at::Tensor a = Sample(12, 3), b = Sample(12, 4);
  const Scores apart = Measure({{a}, {b}}, {}, 0);
  const Scores first = Measure({{a}}, {}, 0), both = Measure({{a, b}}, {}, 0);
  for (size_t n = 0; n < apart[0].size(); ++n) {
    EXPECT_FLOAT_EQ(apart[0][n], first[0][n] / 2);
    EXPECT_NEAR(apart[0][n] + apart[1][n], both[0][n], 1e-5 * both[0][n]);
  }
}

TEST_F(ImportanceTest, Gradient_IsNotTheChange) {
  const at::Tensor sample = Sample(12, 5);
  EXPECT_NE(Measure({{sample}}, {.score = ScoreType::kGradient}, 0)[0],
            Measure({{sample}}, {.score = ScoreType::kChange}, 0)[0]);
}

TEST_F(ImportanceTest, Stopped_IsEmpty) {
  int64_t seen = 0;
  EXPECT_TRUE(MeasureImportance(config_, parameters_, {{Sample(4, 6), Sample(4, 7)}}, {},
                                [&](int64_t done) {
                                  seen = done;
                                  return false;
                                })
                  .empty());
  EXPECT_EQ(seen, 1);
}

TEST_F(ImportanceTest, Coactivation_IsSymmetric_AndCutAtTheThresholdPerSample) {
  const TextGroup samples = {Sample(12, 8), Sample(12, 9)};
  const auto measure = [&](double threshold) {
    return MeasureCoactivation(config_, parameters_, samples, Kernel::kL1, threshold, 1, 1, GoOn)
        .at(0);
  };
  const at::Tensor free = measure(1e30), cut = measure(1e-3);
  EXPECT_EQ(free.sub(free.t()).abs().max().item<float>() < 1e-4, true);
  EXPECT_LE(cut.max().item<float>(), 2e-3f);
  EXPECT_GT(free.max().item<float>(), 2e-3f);
  EXPECT_GE(free.min().item<float>(), 0.0f);
}

}  // namespace
}  // namespace moe::construction
