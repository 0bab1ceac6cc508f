// The real model against transformers: SmolLM2-135M-Instruct, from its GGUF file to losses.
//
// The constants are from transformers 5.23.0 with torch 2.11.0 in fp32, which dequantised the same
// file (`gguf_file=`); the softmax was taken in fp64.
#include <ATen/Context.h>
#include <ATen/ops/log_softmax.h>
#include <ATen/ops/tensor.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <numeric>
#include <string>
#include <vector>

#include "common/status.h"
#include "worker/model/model.h"
#include "worker/model/weights.h"

namespace moe::model {
namespace {

// "The river rises in the mountains and runs for two hundred miles to the sea. ...", some Python,
// "In 1867 the first bridge was opened; it had 12 arches and cost 34,000 pounds."
const std::vector<int64_t> kTokens = {
    504,  4626,  13685, 281,   260,  8718, 284,  7313,  327,   827, 3822, 4158, 288,
    260,  3426,  30,    13957, 624,  7908, 198,  17011, 20257, 28,  9022, 284,  1165,
    8820, 30,    198,   198,   1604, 1441, 24,   6347,  727,   472, 2719, 446,  216,
    32,   30,    32,    472,   327,  1685, 281,  2396,  42,    448, 2719, 4519, 1685,
    472,  1003,  2719,  2272,  3858, 24,   6347, 25,    198,   198, 788,  216,  33,
    40,   38,    39,    260,   808,  7395, 436,  6572,  43,    357, 761,  216,  33,
    34,   28012, 284,   1708,  216,  35,   36,   28,    32,    32,  32,   8473, 30};

// -log p of each token from the second.
const std::vector<double> kLosses = {
    13.58704, 7.27058, 2.67301, 0.86134, 3.00023, 2.43459, 4.35591, 3.94065, 4.10720, 4.14200,
    1.58352,  2.55624, 0.45935, 0.36369, 0.48171, 6.26427, 2.03795, 3.80299, 9.10953, 8.58227,
    10.73087, 1.35485, 6.16471, 1.91006, 4.64162, 1.61108, 0.69994, 1.76046, 0.80351, 11.27513,
    15.17099, 5.19457, 6.02621, 0.98741, 1.15673, 4.07251, 0.19692, 0.04027, 0.03479, 1.92896,
    0.41210,  0.12252, 0.20213, 0.56487, 0.01454, 0.20977, 0.14917, 0.03574, 0.88798, 0.26440,
    0.56793,  0.34468, 0.10159, 0.08396, 2.07334, 0.80685, 0.01336, 0.07227, 0.01836, 0.20951,
    0.35122,  4.63208, 5.59754, 1.42142, 2.75092, 3.57975, 2.82955, 2.61999, 3.53618, 7.15977,
    1.68002,  4.26127, 8.77596, 1.31027, 4.14502, 1.53839, 1.18810, 1.74003, 3.50987, 1.73312,
    6.01521,  0.66587, 2.28767, 4.24370, 2.60852, 0.61508, 0.02270, 0.01068, 2.87157, 0.66862};

std::string ModelPath() {
  const char* cache = std::getenv("MOE_CACHE_DIR");
  const char* home = std::getenv("HOME");
  const std::string folder =
      cache != nullptr ? cache : std::string(home ? home : "") + "/.cache/moe";
  return folder + "/models/smollm2-135m-instruct-q4_1.gguf";
}

class SmolLm2Test : public ::testing::Test {
 protected:
  void SetUp() override {
    if (!std::filesystem::exists(ModelPath())) {
      GTEST_SKIP() << ModelPath() << " is missing; deploy/fetch_model.sh fetches it";
    }
    auto loaded = LoadModel(ModelPath());
    ASSERT_TRUE(loaded.ok()) << ToString(loaded.status());
    loaded_ = *std::move(loaded);
  }

  LoadedModel loaded_;
};

TEST_F(SmolLm2Test, Fp32Losses_AreThoseOfTransformers) {
  Model model(loaded_.config, {.compute = ComputeType::kFp32});
  model.SetParameters(loaded_.parameters);
  const int64_t length = static_cast<int64_t>(kTokens.size());
  const at::Tensor tokens_BS = at::tensor(kTokens, at::kLong).view({1, length});

  const at::Tensor log_p_SV = at::log_softmax(model.Logits(tokens_BS)[0].to(at::kDouble), 1);
  const double* log_p = log_p_SV.const_data_ptr<double>();
  for (int64_t i = 0; i + 1 < length; ++i) {
    EXPECT_NEAR(-log_p[i * loaded_.config.vocab_size + kTokens[i + 1]], kLosses[i], 1e-3)
        << "token " << i + 1;
  }

  const BatchResult result = model.Evaluate(tokens_BS);
  EXPECT_EQ(result.num_targets, length - 1);
  EXPECT_NEAR(result.sample_loss_sum.at(0), std::accumulate(kLosses.begin(), kLosses.end(), 0.0),
              5e-3);
}

}  // namespace
}  // namespace moe::model
