#include "worker/model/lm_head.h"

#include <ATen/Parallel.h>
#include <c10/util/BFloat16.h>
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "tests/unit/worker/kernels/numbers.h"

namespace moe::model {
namespace {

using kernels::testing::Random;

// More than two blocks of the vocabulary and of the tokens, the last ones partial.
constexpr int64_t kTokens = 150, kHidden = 40, kVocabulary = 2 * kVocabularyBlock + 77;
constexpr float kScale = 0.5f;

template <typename Float>
struct Result {
  std::vector<float> losses = std::vector<float>(kTokens);
  std::vector<float> dh = std::vector<float>(kTokens * kHidden);
  std::vector<float> dweight = std::vector<float>(kVocabulary * kHidden, 0.25f);
};

template <typename Float>
class LmHead : public ::testing::Test {
 protected:
  LmHead() {
    const std::vector<float> h = Random(kTokens * kHidden, 1);
    const std::vector<float> weight = Random(kVocabulary * kHidden, 2);
    h_.assign(h.begin(), h.end());
    weight_.assign(weight.begin(), weight.end());
    for (int64_t t = 0; t < kTokens; ++t) {
      targets_.push_back(t % 7 == 3 ? -1 : t * 37 % kVocabulary);
    }
  }

  Result<Float> Backward() {
    Result<Float> result;
    LmHeadScratch<Float> scratch;
    LmHeadLossBackward(h_.data(), weight_.data(), targets_.data(), kTokens, kHidden, kVocabulary,
                       kScale, scratch, result.losses.data(), result.dh.data(),
                       result.dweight.data());
    return result;
  }

  // As it is written down, in fp64.
  void ExpectTheDefinition(const Result<Float>& result, double tolerance) {
    std::vector<double> dweight(kVocabulary * kHidden, 0.25);
    for (int64_t t = 0; t < kTokens; ++t) {
      std::vector<double> logits(kVocabulary), dh(kHidden);
      double sum = 0;
      for (int64_t v = 0; v < kVocabulary; ++v) {
        for (int64_t i = 0; i < kHidden; ++i) {
          logits[v] += double{h_[t * kHidden + i]} * double{weight_[v * kHidden + i]};
        }
        sum += std::exp(logits[v]);
      }
      const int64_t target = targets_[t];
      const double loss = target < 0 ? 0.0 : std::log(sum) - logits[target];
      ASSERT_NEAR(result.losses[t], loss, tolerance) << "token " << t;
      for (int64_t v = 0; target >= 0 && v < kVocabulary; ++v) {
        const double gradient = kScale * (std::exp(logits[v]) / sum - (v == target ? 1 : 0));
        for (int64_t i = 0; i < kHidden; ++i) {
          dh[i] += gradient * double{weight_[v * kHidden + i]};
          dweight[v * kHidden + i] += gradient * double{h_[t * kHidden + i]};
        }
      }
      for (int64_t i = 0; i < kHidden; ++i) {
        ASSERT_NEAR(result.dh[t * kHidden + i], dh[i], tolerance) << "token " << t;
      }
    }
    for (size_t i = 0; i < dweight.size(); ++i) {
      ASSERT_NEAR(result.dweight[i], dweight[i], tolerance) << i / kHidden;
    }
  }

  std::vector<Float> h_, weight_;
  std::vector<int64_t> targets_;
};

using Types = ::testing::Types<float, c10::BFloat16>;
TYPED_TEST_SUITE(LmHead, Types);

TYPED_TEST(LmHead, Backward_EqualsTheDefinition) {
  const bool is_fp32 = std::is_same_v<TypeParam, float>;
  this->ExpectTheDefinition(this->Backward(), is_fp32 ? 2e-5 : 2e-2);
}

TYPED_TEST(LmHead, Loss_IsThatOfTheBackwardPass) {
  std::vector<float> losses(kTokens);
  LmHeadScratch<TypeParam> scratch;
  LmHeadLoss(this->h_.data(), this->weight_.data(), this->targets_.data(), kTokens, kHidden,
             kVocabulary, scratch, losses.data());
  EXPECT_EQ(losses, this->Backward().losses);
}

TYPED_TEST(LmHead, OneThread_GivesTheSameBits) {
  const Result<TypeParam> many = this->Backward();
  const int threads = at::get_num_threads();
  at::set_num_threads(1);
  const Result<TypeParam> one = this->Backward();
  at::set_num_threads(threads);
  EXPECT_EQ(many.losses, one.losses);
  EXPECT_EQ(many.dh, one.dh);
}

}  // namespace
}  // namespace moe::model
