// The rules and scores that decide whether a document stays.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "common/status.h"
#include "sampler/filters/language.h"
#include "sampler/filters/linear_text_model.h"
#include "sampler/filters/quantile.h"
#include "sampler/selection.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::sampler {
namespace {

using testing::HasSubstr;

constexpr char kAdvertisement[] =
    "Our team of experienced professionals offers affordable prices and the best quality for your "
    "home. Call us today for a free quote! We provide free shipping on every order, and our "
    "products come with a warranty. Shop now and save 20% - order online today for only $49.99.";
constexpr char kReport[] =
    "The council met on Tuesday to discuss the results of the inquiry. Several members said that "
    "they had not seen the report before it was published, and the mayor promised that a new "
    "vote would be held next month. The river had risen by two metres in the night.";
constexpr char kKeywords[] =
    "cheap decorative book box set decorative boxes that books 3 piece paisley book box set "
    "decorative book box set wish wooden linen friends decorative book box Set Of Large Storage "
    "Boxes Decorative Books Design Ideas Closet Design Calgary Closets Bedroom Closets Ideas";

TEST(LinearTextModelTest, Advertisement_ScoresAboveAReport) {
  EXPECT_GT(AdvertisementModel().Score(kAdvertisement), AdvertisementModel().Score(kReport) + 1);
}

TEST(LinearTextModelTest, KeywordList_ScoresAsLessFluentThanAReport) {
  EXPECT_LT(FluencyModel().Score(kKeywords), FluencyModel().Score(kReport) - 1);
  EXPECT_LT(FluencyModel().Score(kKeywords), FluencyModel().Score(kAdvertisement));
}

TEST(LinearTextModelTest, Score_IsTheMeanWeightOfTheFeatures) {
  LinearTextModel::Parts parts = {.scale = 0.5, .bias = 1, .weights = std::vector<int8_t>(1024, 0)};
  const std::vector<uint64_t> features = Features("one two", FeatureSet::kWords, {});
  ASSERT_EQ(features.size(), 3u);  // one, two, one two
  parts.weights[LinearTextModel::Index(features[0], 1024)] = 6;
  parts.weights[LinearTextModel::Index(features[2], 1024)] = -3;
  const auto model = LinearTextModel::Make(parts);
  ASSERT_TRUE(model.ok());
  EXPECT_FLOAT_EQ(model->Score("one two"), 0.5f * (6 - 3) / 3 + 1);
  EXPECT_FLOAT_EQ(model->Score("ONE, two."), model->Score("one two"));
  EXPECT_FLOAT_EQ(model->Score(""), 1);
}

TEST(LinearTextModelTest, ModelFile_RoundTripsAndIsCheckedWhenRead) {
  const std::string file = FluencyModel().Serialize();
  const auto again = LinearTextModel::Parse(file, "it");
  ASSERT_TRUE(again.ok()) << ToString(again.status());
  EXPECT_EQ(again->crc32c(), FluencyModel().crc32c());
  EXPECT_FLOAT_EQ(again->Score(kReport), FluencyModel().Score(kReport));
  EXPECT_THAT(Message(LinearTextModel::Parse(file.substr(0, file.size() - 1), "it").status()),
              HasSubstr("bytes of weights"));
  EXPECT_FALSE(LinearTextModel::Parse("", "it").ok());
  EXPECT_FALSE(LinearTextModel::Parse("{}\n", "it").ok());
  EXPECT_FALSE(LinearTextModel::Make({.scale = 1, .weights = std::vector<int8_t>(3)}).ok());
}

TEST(LanguageTest, Shares_AreThoseOfTheText) {
  const std::string english = kReport;
  const std::string german =
      "Der Rat kam am Dienstag zusammen, um \u00fcber die Ergebnisse der Untersuchung zu sprechen. "
      "Mehrere Mitglieder sagten, sie h\u00e4tten den Bericht nicht gesehen, bevor er "
      "ver\u00f6ffentlicht wurde.";
  EXPECT_GT(ShareInLanguages(english, {"en"}), 0.9);
  EXPECT_LT(ShareInLanguages(german, {"en"}), 0.1);
  EXPECT_GT(ShareInLanguages(german, {"en", "de"}), 0.9);
  const double mixed = ShareInLanguages(english + german, {"en"});
  EXPECT_GT(mixed, 0.3);
  EXPECT_LT(mixed, 0.8);
  EXPECT_EQ(ShareInLanguages("42", {"en"}), 1) << "too short to tell";
  EXPECT_GT(ShareInLanguages("\x01\x7f" + english + "\xef\xbf\xbe", {"en"}), 0.9);
  EXPECT_TRUE(IsKnownLanguage("en") && IsKnownLanguage("zh"));
  EXPECT_FALSE(IsKnownLanguage("xx") || IsKnownLanguage("english") || IsKnownLanguage(""));
}

TEST(QuantileTest, Worst_AreExactlyTheShareWhateverTheTies) {
  for (const int64_t count : {0, 1, 7, 100, 1001}) {
    for (const double share : {0.0, 0.15, 0.5, 0.95, 1.0}) {
      std::vector<Ranked> documents;
      for (int64_t i = 0; i < count; ++i) {
        documents.push_back({.badness = static_cast<float>(i * 7919 % 10), .hash = 3, .index = i});
      }
      std::vector<Ranked> sorted = documents;
      std::sort(sorted.begin(), sorted.end());
      std::vector<Ranked> worst = TakeWorst(documents, share);
      ASSERT_EQ(worst.size(), static_cast<size_t>(std::floor(share * static_cast<double>(count))));
      std::sort(worst.begin(), worst.end());
      for (size_t i = 0; i < worst.size(); ++i) EXPECT_EQ(worst[i].index, sorted[i].index);
    }
  }
}

class ApplyFiltersTest : public testing::Test {
 protected:
  // Documents with these (fluency, advertisement) scores; every fifth is a duplicate.
  void Write(int64_t count) {
    auto writer = DocumentRecordWriter::Resume(path_, 0);
    ASSERT_TRUE(writer.ok());
    for (int64_t i = 0; i < count; ++i) {
      DocumentRecord record = {.hash = {static_cast<uint64_t>(i), 0},
                               .fluency = static_cast<float>(i),
                               .advertisement = static_cast<float>(i % 50),
                               .bytes = 1};
      if (i % 5 == 4) record.verdict = Verdict::kDuplicate;
      ASSERT_TRUE(writer->Append(record).ok());
    }
    ASSERT_TRUE(writer->Sync().ok());
  }
  std::vector<int64_t> Indices(Verdict verdict) {
    const auto records = DocumentRecords::Open(path_);
    std::vector<int64_t> indices;
    for (int64_t i = 0; i < records->count(); ++i) {
      if (records->at(i).verdict == verdict) indices.push_back(i);
    }
    return indices;
  }

  TemporaryFolder folder_;
  const std::string path_ = folder_.File("c4.documents");
};

TEST_F(ApplyFiltersTest, Quantile_IsOfTheDocumentsThatPassedTheRules) {
  Write(100);
  const DomainRules rules = {.drop_fluency = 0.1};
  const auto outcome = ApplyFilters(path_, rules);
  ASSERT_TRUE(outcome.ok()) << ToString(outcome.status());
  EXPECT_EQ(outcome->documents, 80);
  EXPECT_EQ(outcome->dropped_fluency, 8);
  EXPECT_EQ(outcome->fluency_threshold, 10);
  EXPECT_THAT(Indices(Verdict::kFluency), testing::ElementsAre(0, 1, 2, 3, 5, 6, 7, 8));
  EXPECT_EQ(Indices(Verdict::kDuplicate).size(), 20u);
}

TEST_F(ApplyFiltersTest, MovedShares_GiveWhatTheyWouldHaveGivenAtFirst) {
  Write(100);
  ASSERT_TRUE(ApplyFilters(path_, {.drop_fluency = 0.5, .drop_advertisement = 0.5}).ok());
  ASSERT_TRUE(ApplyFilters(path_, {.drop_fluency = 0.1}).ok());
  EXPECT_THAT(Indices(Verdict::kFluency), testing::ElementsAre(0, 1, 2, 3, 5, 6, 7, 8));
  EXPECT_THAT(Indices(Verdict::kAdvertisement), testing::IsEmpty());
}

TEST_F(ApplyFiltersTest, EachFilter_DropsItsShareAndBothCountAsNotFluent) {
  Write(100);
  const auto outcome = ApplyFilters(path_, {.drop_fluency = 0.25, .drop_advertisement = 0.25});
  ASSERT_TRUE(outcome.ok());
  EXPECT_EQ(outcome->dropped_fluency, 20);
  EXPECT_GT(outcome->dropped_advertisement, 0);
  EXPECT_LE(outcome->dropped_advertisement, 20);
}

TEST_F(ApplyFiltersTest, RecordsThatAreCut_AreRefused) {
  Write(10);
  std::filesystem::resize_file(path_, std::filesystem::file_size(path_) - 1);
  EXPECT_TRUE(absl::IsDataLoss(DocumentRecords::Open(path_).status()));
  std::filesystem::resize_file(path_, 3);
  EXPECT_TRUE(absl::IsDataLoss(DocumentRecords::Open(path_).status()));
}

}  // namespace
}  // namespace moe::sampler
