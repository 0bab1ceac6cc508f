// Documents of a sample that do not see one another.
#include <ATen/ops/allclose.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/searchsorted.h>
#include <ATen/ops/tensor.h>
#include <ATen/ops/zeros_like.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <stdexcept>
#include <vector>

#include "tests/numerics/tiny_model.h"
#include "worker/model/model.h"
#include "worker/model/reference.h"

namespace moe::model {
namespace {

using ::testing::HasSubstr;
using testing::RandomParameters;
using testing::RandomTokens;
using ::testing::ThrowsMessage;

// Two samples; documents longer than a block of queries of the attention kernel, of one token, and
// in between.
constexpr int64_t kSamples = 2, kLength = 128;
const std::vector<int64_t> kDocumentEnds = {70, 71, 76, 128, 136, 256};

class DocumentAttentionTest : public ::testing::Test {
 protected:
  DocumentAttentionTest() { batch_.document_ends = kDocumentEnds; }

  // The number of each token's document, as the reference wants it.
  at::Tensor DocumentNumbers() const {
    return at::searchsorted(at::tensor(kDocumentEnds), at::arange(kSamples * kLength),
                            /*out_int32=*/false, /*right=*/true)
        .view({kSamples, kLength});
  }

  artefacts::ModelConfig config_ = testing::TinyMoe();
  const at::Tensor tokens_ = RandomTokens(kSamples, kLength, config_.vocab_size, /*seed=*/12);
  Batch batch_ = ToBatch(tokens_);
};

TEST_F(DocumentAttentionTest, LossAndEveryGradient_EqualAutogradOfTheMask) {
  Model model(config_, {.compute = ComputeType::kFp32});
  const at::Tensor parameters = RandomParameters(model.layout(), /*seed=*/11);
  const NoiseContext noise{.seed = 13, .first_sample = 1000};
  model.SetParameters(parameters);
  at::Tensor gradients = at::zeros_like(parameters);
  const double targets = static_cast<double>(batch_.num_targets());
  const BatchResult result =
      model.ForwardBackward(batch_, noise, {.target = 1 / targets, .balance = 1}, gradients);

  at::Tensor leaf = parameters.to(at::kDouble).requires_grad_();
  const reference::Output expected = reference::Forward(
      config_, model.layout(), LoadEstimator::kCorrect, leaf, tokens_, &noise, DocumentNumbers());
  (expected.mean_loss + expected.balance_loss).backward();

  EXPECT_NEAR(result.MeanLoss(), expected.mean_loss.item<double>(), 1e-5);
  EXPECT_NEAR(result.balance_loss, expected.balance_loss.item<double>(), 1e-5);
  for (const Parameter& parameter : model.layout().parameters()) {
    const at::Tensor got = gradients.narrow(0, parameter.offset, parameter.numel).to(at::kDouble);
    const at::Tensor want = leaf.grad().narrow(0, parameter.offset, parameter.numel);
    const double norm = want.norm().item<double>();
    EXPECT_GT(norm, 0) << parameter.name;
    EXPECT_LT((got - want).norm().item<double>(), 1e-5 * norm) << parameter.name;
  }
}

TEST_F(DocumentAttentionTest, Logits_AreThoseOfTheDocumentAlone) {
  Model model(config_, {.compute = ComputeType::kFp32});
  model.SetParameters(RandomParameters(model.layout(), /*seed=*/11));
  const at::Tensor together = model.Logits(batch_);
  const at::Tensor flat = tokens_.view({1, -1});
  int64_t begin = 0;
  for (const int64_t end : kDocumentEnds) {
    const at::Tensor alone = model.Logits(flat.narrow(1, begin, end - begin).contiguous())[0];
    const at::Tensor apart = together.narrow(0, begin, end - begin) - alone;
    EXPECT_LT(apart.abs().max().item<double>(), 2e-4 * alone.abs().max().item<double>())
        << "tokens " << begin << " to " << end;
    begin = end;
  }
}

// What the tests above would not notice if documents were ignored on both sides.
TEST_F(DocumentAttentionTest, Logits_DifferFromThoseOfOneLongDocument) {
  Model model(config_, {.compute = ComputeType::kFp32});
  model.SetParameters(RandomParameters(model.layout(), /*seed=*/11));
  const at::Tensor apart = model.Logits(batch_), whole = model.Logits(ToBatch(tokens_));
  // Not to the bit: the experts of the others have other rows, and products other shapes.
  EXPECT_TRUE(at::allclose(apart.narrow(0, 0, 70), whole.narrow(0, 0, 70), 1e-5, 1e-5))
      << "the sample's first";
  EXPECT_GT((apart - whole).narrow(0, 71, 57).abs().max().item<double>(), 0.1);
}

TEST_F(DocumentAttentionTest, DocumentsThatDoNotFillTheSamples_AreRefused) {
  Model model(config_, {.compute = ComputeType::kFp32});
  model.SetParameters(RandomParameters(model.layout(), /*seed=*/11));
  const auto refuse = [&](std::vector<int64_t> ends, const char* problem) {
    Batch batch = ToBatch(tokens_);
    batch.document_ends = std::move(ends);
    EXPECT_THAT([&] { model.Evaluate(batch); },
                ThrowsMessage<std::invalid_argument>(HasSubstr(problem)));
  };
  refuse({128}, "after token 128 of 256");
  refuse({100, 200, 256}, "after token 100 of 256");
  refuse({128, 128, 256}, "after token 128 of 256");
  refuse({128, 300}, "after token 128 of 256");
}

}  // namespace
}  // namespace moe::model
