#include "worker/evaluation/perplexity_report.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace moe::evaluation {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

PerplexityReport TwoModels() {
  PerplexityReport report;
  report.dataset = "corpus:1";
  report.compute = "bf16";
  report.options = {.sequence_length = 5, .max_samples_per_domain = 16};
  report.models = {
      {.label = "dense",
       .model = "/m.gguf",
       .domains = {{"c4", 3, 12, 36.0}, {"github", 1, 4, 4.0}, {"arxiv", 0, 0, 0.0}}},
      {.label = "moe",
       .model = "moe:1",
       .domains = {{"c4", 3, 12, 120.0}, {"github", 1, 4, 40.0}, {"arxiv", 0, 0, 0.0}}}};
  return report;
}

TEST(PerplexityReportTest, Table_HasDomainsAndMeanOverTokens) {
  EXPECT_THAT(Table(TwoModels()),
              ElementsAre(ElementsAre("domain", "dense loss", "dense ppl", "moe loss", "moe ppl"),
                          ElementsAre("c4", "3.0000", "20.09", "10.0000", "22026.47"),
                          ElementsAre("github", "1.0000", "2.72", "10.0000", "22026.47"),
                          ElementsAre("arxiv", "-", "-", "-", "-"),
                          // (36 + 4) / 16, not the mean of 3 and 1
                          ElementsAre("mean", "2.5000", "12.18", "10.0000", "22026.47")));
}

TEST(PerplexityReportTest, ToJson_HasNullWhereThereIsNoText) {
  const Json json = ToJson(TwoModels());
  EXPECT_EQ(json["models"][0]["mean"]["loss"], 2.5);
  EXPECT_EQ(json["models"][0]["mean"]["tokens"], 16);
  EXPECT_TRUE(json["models"][1]["domains"][2]["perplexity"].is_null());
}

TEST(PerplexityReportTest, ToMarkdown_SaysHowItWasMeasuredAndKeepsCellsApart) {
  PerplexityReport report = TwoModels();
  report.models[0].label = "a|b";
  const std::string text = ToMarkdown(report);
  EXPECT_THAT(text, HasSubstr("corpus:1, 5 tokens per sample, at most 16 samples per domain"));
  report.options.attention = AttentionScope::kDocument;
  EXPECT_THAT(ToMarkdown(report),
              HasSubstr("5 tokens per sample with its documents apart, at most"));
  EXPECT_TRUE(ToJson(report)["reset_attention_mask"].get<bool>());
  EXPECT_THAT(text, HasSubstr("| domain | a\\|b loss |"));
  EXPECT_THAT(text, HasSubstr("|---|---:|---:|---:|---:|\n"));
  EXPECT_THAT(text, HasSubstr("| mean | 2.5000 | 12.18 | 10.0000 | 22026.47 |"));
}

}  // namespace
}  // namespace moe::evaluation
