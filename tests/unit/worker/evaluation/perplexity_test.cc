#include "worker/evaluation/perplexity.h"

#include <ATen/ops/empty.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "common/status.h"
#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/worker/training/tiny_run.h"

namespace moe::evaluation {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr int64_t kLength = 32;

class PerplexityTest : public ::testing::Test {
 protected:
  PerplexityTest() : model_(training::TinyMoe(), {.compute = model::ComputeType::kFp32}) {
    training::WriteTinyDataset(folder_.path());
    dataset_ = sampler::Dataset::Open(folder_.path()).value();
    model_.SetParameters(training::RandomParameters(training::TinyMoe()));
  }

  // The same loss by another way: one sample at a time, through the logits.
  double LossOfSample(int domain, int64_t index) {
    at::Tensor tokens_BS = at::empty({1, kLength}, at::kLong);
    int64_t* tokens = tokens_BS.mutable_data_ptr<int64_t>();
    dataset_->ReadSample(sampler::Split::kHeldout, domain, index, kLength, tokens);
    const at::Tensor logits_SV = model_.Logits(tokens_BS)[0].to(at::kDouble).contiguous();
    const int64_t vocab = logits_SV.size(1);
    double loss = 0;
    for (int64_t i = 0; i + 1 < kLength; ++i) {
      const double* row = logits_SV.const_data_ptr<double>() + i * vocab;
      double sum = 0;
      for (int64_t v = 0; v < vocab; ++v) sum += std::exp(row[v]);
      loss += std::log(sum) - row[tokens[i + 1]];
    }
    return loss;
  }

  TemporaryFolder folder_;
  model::Model model_;
  std::unique_ptr<sampler::Dataset> dataset_;
};

TEST_F(PerplexityTest, MeasureDomains_IsTheMeanOverPredictedTokens) {
  std::vector<int64_t> progress;
  const PerplexityOptions options = {
      .sequence_length = kLength, .max_samples_per_domain = 3, .batch_samples = 2};
  ASSERT_EQ(CountSamples(*dataset_, options), 6);
  const std::vector<DomainLoss> losses =
      MeasureDomains(model_, *dataset_, options, [&](int64_t done) {
        progress.push_back(done);
        return true;
      });
  ASSERT_EQ(losses.size(), 2u);
  for (int domain = 0; domain < 2; ++domain) {
    const DomainLoss& loss = losses[domain];
    EXPECT_EQ(loss.domain, dataset_->domains()[domain].name);
    EXPECT_EQ(loss.samples, 3);
    EXPECT_EQ(loss.tokens, 3 * (kLength - 1));
    double expected = 0;
    for (int64_t i = 0; i < 3; ++i) expected += LossOfSample(domain, i);
    EXPECT_NEAR(loss.MeanLoss(), expected / (3 * (kLength - 1)), 1e-5);
  }
  // A last batch may be smaller, and batches do not mix domains.
  EXPECT_THAT(progress, ElementsAre(2, 3, 5, 6));
}

// Documents have 50 tokens: the ends of two are in samples 1 and 3, that of none in sample 2.
TEST_F(PerplexityTest, ReadBatch_OfDocuments_EndsThemWhereTheDatasetDoes) {
  const std::vector<sampler::SampleRef> samples = {{.domain = 1, .epoch = 0, .sample = 1},
                                                   {.domain = 0, .epoch = 0, .sample = 2},
                                                   {.domain = 0, .epoch = 0, .sample = 3}};
  const auto read = [&](AttentionScope scope) {
    return ReadBatch(*dataset_, sampler::Split::kHeldout, samples, kLength, scope);
  };
  const model::Batch batch = read(AttentionScope::kDocument);
  EXPECT_THAT(batch.ends, ElementsAre(32, 64, 96));
  EXPECT_THAT(batch.document_ends, ElementsAre(50 - 32, 32, 64, 64 + 100 - 96, 96));
  const model::Batch whole = read(AttentionScope::kSample);
  EXPECT_THAT(whole.document_ends, IsEmpty());
  EXPECT_EQ(whole.tokens, batch.tokens);
  EXPECT_EQ(whole.targets, batch.targets) << "the last token of a document has its target, too";
}

TEST_F(PerplexityTest, MeasureDomains_OfDocuments_IsAnotherLoss) {
  PerplexityOptions options = {.sequence_length = kLength, .max_samples_per_domain = 4};
  const auto measure = [&] {
    return MeasureDomains(model_, *dataset_, options, [](int64_t) { return true; })[0];
  };
  const DomainLoss whole = measure();
  options.attention = AttentionScope::kDocument;
  const DomainLoss apart = measure();
  EXPECT_EQ(apart.tokens, whole.tokens);
  EXPECT_NE(apart.loss_sum, whole.loss_sum);
}

TEST_F(PerplexityTest, MeasureDomains_WithoutALimit_ReadsAllSamples) {
  const PerplexityOptions options = {
      .sequence_length = kLength, .max_samples_per_domain = 0, .batch_samples = 16};
  const auto losses = MeasureDomains(model_, *dataset_, options, [](int64_t done) { return true; });
  // 200 held-out tokens are 6 samples of 32.
  EXPECT_EQ(losses[0].samples, 6);
  EXPECT_EQ(losses[1].samples, 6);
}

TEST_F(PerplexityTest, MeasureDomains_ToldToStop_StopsAfterTheBatch) {
  const PerplexityOptions options = {
      .sequence_length = kLength, .max_samples_per_domain = 4, .batch_samples = 2};
  const auto losses =
      MeasureDomains(model_, *dataset_, options, [](int64_t done) { return false; });
  EXPECT_EQ(losses[0].samples, 2);
  EXPECT_EQ(losses[1].samples, 0);
}

TEST_F(PerplexityTest, MeasureDomains_SamplesLongerThanTheText_HasNoMean) {
  const PerplexityOptions options = {.sequence_length = 1000};
  EXPECT_EQ(CountSamples(*dataset_, options), 0);
  const auto losses = MeasureDomains(model_, *dataset_, options, [](int64_t done) { return true; });
  EXPECT_EQ(losses[0].samples, 0);
  EXPECT_TRUE(std::isnan(losses[0].MeanLoss()));
}

}  // namespace
}  // namespace moe::evaluation
