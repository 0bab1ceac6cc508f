#include "sampler/prepare.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>
#include <set>

#include "common/file.h"
#include "common/status.h"
#include "sampler/dataset.h"
#include "sampler/document_records.h"
#include "sampler/token_shard.h"
#include "sampler/tokenizer/tokenizer.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::sampler {
namespace {

using testing::AllOf;
using testing::HasSubstr;

std::string TokenizerPath() {
  const char* source = std::getenv("MOE_SOURCE_DIR");
  MOE_CHECK(source != nullptr);  // set by ctest
  return std::string(source) + "/tests/unit/sampler/testdata/tokenizer.json";
}

class Observer final : public PrepareObserver {
 public:
  explicit Observer(int stop_after = 1 << 30) : stop_after_(stop_after) {}
  void OnProgress(const PrepareProgress& progress) override { last = progress; }
  bool StopRequested() override { return stop_after_-- <= 0; }
  PrepareProgress last;

 private:
  int stop_after_;
};

class PrepareTest : public testing::Test {
 protected:
  PrepareTest() {
    spec_.tokenizer_path = TokenizerPath();
    for (int i = 0; i < 200; ++i) {
      AddDocument("c4", "The document number " + std::to_string(i) + " has some text.\n");
    }
    for (int i = 0; i < 30; ++i) AddDocument("github", "int x" + std::to_string(i) + " = 0;");
    spec_.domains = {{"github", {folder_.File("github.jsonl")}},
                     {"c4", {folder_.File("c4.jsonl")}}};
  }

  void AddDocument(const std::string& domain, const std::string& text) {
    std::ofstream(folder_.File(domain + ".jsonl"), std::ios::app)
        << Json{{"text", text}}.dump() << "\n";
    texts_[domain].push_back(text);
  }

  absl::StatusOr<PreparedDataset> Prepare(const std::string& name, int threads = 1) {
    return PrepareDataset(spec_, Output(name), {.threads = threads}, observer_);
  }
  PrepareOutput Output(const std::string& name) const {
    return {.folder = folder_.File(name),
            .work_folder = folder_.File(name + ".unfinished"),
            .name = "corpus",
            .job_id = "j1",
            .attempt = 1,
            .inputs = {"t"}};
  }
  // Every token of a domain and split.
  std::vector<int32_t> Stream(const Dataset& dataset, Split split, int domain) {
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < dataset.NumSamples(split, domain, 1); ++i) {
      int64_t token = 0;
      dataset.ReadSample(split, domain, i, 1, &token);
      tokens.push_back(static_cast<int32_t>(token));
    }
    return tokens;
  }

  TemporaryFolder folder_;
  PrepareSpec spec_;
  Observer observer_;
  std::map<std::string, std::vector<std::string>> texts_;
};

TEST_F(PrepareTest, Dataset_HoldsEveryDocumentOnceInOneOfTheSplits) {
  const auto prepared = Prepare("out");
  ASSERT_TRUE(prepared.ok()) << ToString(prepared.status());
  const auto dataset = Dataset::Open(folder_.File("out"));
  ASSERT_TRUE(dataset.ok()) << ToString(dataset.status());
  EXPECT_EQ((*dataset)->vocab_size(), 702);
  EXPECT_EQ((*dataset)->manifest_crc32c(), prepared->manifest.crc32c);
  ASSERT_EQ((*dataset)->domains().size(), 2u);
  EXPECT_EQ((*dataset)->domains()[0].name, "github");  // the order of the spec
  const auto tokenizer = OpenTokenizer(folder_.File("out"));
  ASSERT_TRUE(tokenizer.ok());
  for (int domain = 0; domain < 2; ++domain) {
    const std::string train = (*tokenizer)->Decode(Stream(**dataset, Split::kTrain, domain));
    const std::string heldout = (*tokenizer)->Decode(Stream(**dataset, Split::kHeldout, domain));
    std::string expected_train, expected_heldout;
    for (const std::string& text : texts_[(*dataset)->domains()[domain].name]) {
      const bool in_train = train.find(text) != std::string::npos;
      EXPECT_NE(in_train, heldout.find(text) != std::string::npos) << text;
      (in_train ? expected_train : expected_heldout) += text;
    }
    EXPECT_EQ(train, expected_train);
    EXPECT_EQ(heldout, expected_heldout);
    EXPECT_FALSE(heldout.empty());
  }
  EXPECT_EQ(observer_.last.documents, 230);
  EXPECT_EQ(observer_.last.bytes, observer_.last.total_bytes);
}

// The boundaries inside samples of any length are those of the documents.
TEST_F(PrepareTest, DocumentStarts_AreWhereTheDocumentsBegin) {
  ASSERT_TRUE(Prepare("out").ok());
  const auto dataset = Dataset::Open(folder_.File("out"));
  const auto tokenizer = OpenTokenizer(folder_.File("out"));
  ASSERT_TRUE(dataset.ok() && tokenizer.ok());
  const auto shard = TokenShard::Open(folder_.File("out/train/c4.tokens"));
  std::set<int64_t> expected;
  for (int64_t i = 0; i + 1 < shard->num_documents(); ++i) expected.insert(shard->DocumentEnd(i));
  for (const int64_t length : {1, 7, 64, 1000}) {
    for (int64_t i = 0; i < (*dataset)->NumSamples(Split::kTrain, 1, length); ++i) {
      std::vector<int64_t> starts = {0};
      for (int64_t at = 1; at < length; ++at) {
        if (expected.contains(i * length + at)) starts.push_back(at);
      }
      EXPECT_EQ((*dataset)->DocumentStarts(Split::kTrain, 1, i, length), starts);
    }
  }
}

TEST_F(PrepareTest, Duplicates_AreDroppedAcrossDomainsAndCounted) {
  AddDocument("c4", texts_["c4"][7]);
  AddDocument("c4", texts_["github"][0]);  // github comes first
  spec_.remove_duplicates = true;
  const auto prepared = Prepare("out");
  ASSERT_TRUE(prepared.ok()) << ToString(prepared.status());
  EXPECT_EQ(prepared->documents, 230);
  const auto card = ReadJsonFile(folder_.File("out/card.json"));
  ASSERT_TRUE(card.ok());
  EXPECT_EQ((*card)["domains"][0]["dropped"]["duplicate"], 0);
  EXPECT_EQ((*card)["domains"][1]["dropped"]["duplicate"], 2);
  EXPECT_THAT((*card)["domains"][1]["dropped_examples"][1].get<std::string>(),
              "duplicate: begins 'int x0 = 0;'");
}

TEST_F(PrepareTest, ShortDocuments_AreDroppedByCharactersAndCounted) {
  AddDocument("c4", "\u00e9\u00e9\u00e9\u00e9");  // 8 bytes
  AddDocument("c4", "\u00e9\u00e9\u00e9\u00e9\u00e9");
  spec_.min_characters = 5;
  const auto prepared = Prepare("out");
  ASSERT_TRUE(prepared.ok()) << ToString(prepared.status());
  EXPECT_EQ(prepared->documents, 231);
}

TEST_F(PrepareTest, LongDocuments_AreDroppedByCharacters) {
  AddDocument("c4", std::string(300, 'x'));
  spec_.max_characters = 200;
  const auto prepared = Prepare("out");
  ASSERT_TRUE(prepared.ok()) << ToString(prepared.status());
  EXPECT_EQ(prepared->documents, 230);
  EXPECT_EQ(prepared->metadata["domains"][1]["dropped"], (Json{{"too_large", 1}}));
}

TEST_F(PrepareTest, NearDuplicates_AreDroppedAndOthersStay) {
  std::string long_text;
  for (int i = 0; i < 100; ++i) long_text += "word" + std::to_string(i) + " ";
  AddDocument("github", long_text + "end");
  AddDocument("c4", long_text + "and a little more");  // github comes first
  spec_.domains[1].paths = {folder_.File("c4.jsonl")};
  spec_.near_duplicate_similarity = 0.8;
  const auto prepared = Prepare("out");
  ASSERT_TRUE(prepared.ok()) << ToString(prepared.status());
  EXPECT_EQ(prepared->metadata["domains"][0]["dropped"], Json::object());
  // The other documents of c4 differ in one word of eight: no sequence of five around it is shared.
  EXPECT_EQ(prepared->metadata["domains"][1]["dropped"]["near_duplicate"], 1);
}

TEST_F(PrepareTest, OtherLanguages_AreDroppedWhereTheRuleHolds) {
  const std::string german =
      "Mehrere Mitglieder sagten, sie h\u00e4tten den Bericht nicht gesehen, bevor er "
      "ver\u00f6ffentlicht wurde, und der Rat kam am Dienstag zusammen.";
  AddDocument("c4", german);
  AddDocument("github", german);
  spec_.language = {.languages = {"en"}, .min_share = 0.5, .domains = {"c4"}};
  const auto prepared = Prepare("out");
  ASSERT_TRUE(prepared.ok()) << ToString(prepared.status());
  EXPECT_EQ(prepared->metadata["domains"][0]["dropped"], Json::object());
  EXPECT_EQ(prepared->metadata["domains"][1]["dropped"], (Json{{"language", 1}}));
}

TEST_F(PrepareTest, Filter_DropsExactlyItsShareAndTheWorst) {
  const std::string advertisement =
      "Our team offers affordable prices for your home. Call us today for a free quote! Shop now "
      "and save: free shipping on every order of our products, for only $49.99.";
  for (int i = 0; i < 50; ++i) AddDocument("c4", advertisement + std::to_string(i));
  spec_.filters = {{.score = "advertisement", .drop = 0.2, .domains = {"c4"}}};
  const auto prepared = Prepare("out");
  ASSERT_TRUE(prepared.ok()) << ToString(prepared.status());
  EXPECT_EQ(prepared->metadata["domains"][1]["dropped"], (Json{{"advertisement", 50}}));
  const auto records = DocumentRecords::Open(folder_.File("out/documents/c4.documents"));
  ASSERT_TRUE(records.ok());
  ASSERT_EQ(records->count(), 250);
  for (int64_t i = 0; i < 250; ++i) {
    EXPECT_EQ(records->at(i).verdict, i < 200 ? Verdict::kKept : Verdict::kAdvertisement) << i;
    EXPECT_TRUE(std::isnan(records->at(i).fluency));
  }
  const Json card = *ReadJsonFile(folder_.File("out/card.json"));
  EXPECT_EQ(card["domains"][1]["filters"]["documents"], 250);
  EXPECT_TRUE(card["domains"][1]["filters"].contains("advertisement_threshold"));
  EXPECT_EQ(card["domains"][1]["dropped_examples"], Json::array()) << "no text is looked at again";
  EXPECT_EQ(observer_.last.bytes, observer_.last.total_bytes);
}

TEST_F(PrepareTest, EverythingDropped_SaysByWhat) {
  spec_.min_characters = 20;  // more than any document of github has
  EXPECT_THAT(Message(Prepare("out").status()),
              AllOf(HasSubstr("domain github"), HasSubstr("all of its 30 documents were dropped"),
                    HasSubstr("30 too_short")));
}

TEST_F(PrepareTest, WorkFolderInUse_IsLeftAlone) {
  class Intruder final : public PrepareObserver {
   public:
    explicit Intruder(std::function<absl::Status()> intrude) : intrude_(std::move(intrude)) {}
    void OnProgress(const PrepareProgress&) override {
      if (!told.has_value()) told = intrude_();
    }
    bool StopRequested() override { return false; }
    std::optional<absl::Status> told;

   private:
    const std::function<absl::Status()> intrude_;
  };
  Intruder intruder([this] {
    PrepareOutput output = Output("other");
    output.work_folder = folder_.File("out.unfinished");
    return PrepareDataset(spec_, output, {}, observer_).status();
  });
  ASSERT_TRUE(PrepareDataset(spec_, Output("out"), {}, intruder).ok());
  EXPECT_TRUE(absl::IsUnavailable(*intruder.told)) << ToString(*intruder.told);
}

TEST_F(PrepareTest, UnknownSet_NamesTheSetsThatThereAre) {
  AddDocument("github", "x");
  std::ofstream(folder_.File("github.jsonl"), std::ios::app)
      << R"({"text": "y", "meta": {"redpajama_set_name": "RedPajamaGithub"}})"
      << "\n";
  spec_.domains[0].set = "RedPajamaGitHub";
  EXPECT_THAT(Message(Prepare("out").status()),
              AllOf(HasSubstr("domain github is empty"), HasSubstr("RedPajamaGithub")));
}

TEST_F(PrepareTest, NumberOfThreads_ChangesNoByte) {
  spec_.remove_duplicates = true;
  spec_.near_duplicate_similarity = 0.8;
  spec_.filters = {{.score = "fluency", .drop = 0.25, .domains = {"c4"}}};
  const auto one = Prepare("one", 1);
  const auto four = Prepare("four", 4);
  ASSERT_TRUE(one.ok() && four.ok());
  // The manifest holds the checksum of every file.
  EXPECT_EQ(one->manifest.crc32c, four->manifest.crc32c);
}

TEST_F(PrepareTest, AddBos_StartsEveryDocument) {
  spec_.add_bos = true;
  EXPECT_THAT(Message(Prepare("no-bos").status()), HasSubstr("no beginning-of-sequence token"));

  const std::string tokenizer = folder_.Write("tok/tokenizer.json", *ReadFile(TokenizerPath()));
  folder_.Write("tok/tokenizer_config.json", R"({"bos_token": "<|im_start|>"})");
  spec_.tokenizer_path = folder_.File("tok");
  ASSERT_TRUE(Prepare("out").ok());
  const auto dataset = Dataset::Open(folder_.File("out"));
  ASSERT_TRUE(dataset.ok());
  int64_t starts = 0;
  for (const Split split : {Split::kTrain, Split::kHeldout}) {
    for (const int32_t token : Stream(**dataset, split, 0)) starts += token == 1 ? 1 : 0;
  }
  EXPECT_EQ(starts, 30);
}

TEST_F(PrepareTest, TokenLimit_StopsADomainAfterTheDocumentThatReachesIt) {
  spec_.max_tokens_per_domain = 100;
  ASSERT_TRUE(Prepare("out").ok());
  const auto dataset = Dataset::Open(folder_.File("out"));
  ASSERT_TRUE(dataset.ok());
  for (const DatasetDomain& domain : (*dataset)->domains()) {
    EXPECT_GE(domain.train_tokens, 70) << domain.name;  // one document may have changed sides
    EXPECT_LT(domain.train_tokens, 130) << domain.name;
    EXPECT_GT(domain.heldout_tokens, 0) << domain.name;
  }
}

TEST_F(PrepareTest, FractionZero_StillHoldsOneDocumentOut) {
  spec_.heldout_fraction = 0;
  const auto prepared = Prepare("out");
  ASSERT_TRUE(prepared.ok()) << ToString(prepared.status());
  for (const Json& domain : prepared->metadata["domains"]) {
    EXPECT_EQ(domain["heldout_documents"], 1);
  }
}

TEST_F(PrepareTest, DomainOfOneDocument_IsCutAndTheCardSaysSo) {
  spec_.domains = {{"books", {folder_.Write("book.txt", "One.\n\nTwo.\n\nThree.\n\nFour.\n")}}};
  const auto prepared = Prepare("out");
  ASSERT_TRUE(prepared.ok()) << ToString(prepared.status());
  const Json card = *ReadJsonFile(folder_.File("out/card.json"));
  EXPECT_EQ(card["domains"][0]["split_within_document"], true);
  EXPECT_EQ(card["domains"][0]["train_documents"], 1);
  EXPECT_EQ(card["domains"][0]["heldout_documents"], 1);
}

TEST_F(PrepareTest, BadInput_IsRefusedNamingIt) {
  const auto error_of = [this](const std::string& name) {
    const auto prepared = Prepare(name);
    EXPECT_FALSE(prepared.ok());
    EXPECT_FALSE(FileExists(folder_.File(name + "/manifest.json")));
    return Message(prepared.status());
  };
  const PrepareSpec good = spec_;
  spec_.domains.push_back({"wikipedia", {folder_.Write("empty.jsonl", "\n{}\n")}});
  EXPECT_THAT(error_of("empty"),
              testing::AllOf(HasSubstr("wikipedia"), HasSubstr("empty.jsonl:2")));
  spec_ = good;
  spec_.domains[1].paths = {folder_.File("nothing-here")};
  EXPECT_THAT(error_of("missing"), testing::AllOf(HasSubstr("c4"), HasSubstr("nothing-here")));
  spec_ = good;
  spec_.domains[1].name = "github";
  EXPECT_THAT(error_of("twice"), HasSubstr("github is listed twice"));
  spec_ = good;
  spec_.domains[1].name = "../up";
  EXPECT_THAT(error_of("name"), HasSubstr("../up"));
  spec_ = good;
  spec_.heldout_fraction = 0.6;
  EXPECT_THAT(error_of("fraction"), HasSubstr("0.6"));
  spec_ = good;
  spec_.filters = {{.score = "fluent", .drop = 0.1, .domains = {"c4"}}};
  EXPECT_THAT(error_of("score"), HasSubstr("'fluent'; use fluency or advertisement"));
  spec_.filters = {{.score = "fluency", .drop = 0.99, .domains = {"c4"}}};
  EXPECT_THAT(error_of("drop"), HasSubstr("0.99"));
  spec_.filters = {{.score = "fluency", .drop = 0.1, .domains = {"cc"}}};
  EXPECT_THAT(error_of("filter-domain"), AllOf(HasSubstr("'cc'"), HasSubstr("c4")));
  spec_.filters = {{.score = "fluency", .drop = 0.1, .domains = {"c4", "c4"}}};
  EXPECT_THAT(error_of("filter-twice"), HasSubstr("twice"));
  spec_ = good;
  spec_.near_duplicate_similarity = 0.3;
  EXPECT_THAT(error_of("similarity"), HasSubstr("0.3; it must be 0.5 to 1"));
  spec_ = good;
  spec_.language = {.languages = {"xx"}, .min_share = 0.5, .domains = {}};
  EXPECT_THAT(error_of("language"), HasSubstr("'xx'"));
  spec_ = good;
  spec_.min_characters = 10;
  spec_.max_characters = 5;
  EXPECT_THAT(error_of("characters"), HasSubstr("max_characters=5"));
  spec_ = good;
  spec_.domains = {};
  EXPECT_THAT(error_of("none"), HasSubstr("no domains"));
}

TEST_F(PrepareTest, FolderWithSomethingInIt_IsRefused) {
  folder_.Write("out/left-over", "x");
  EXPECT_TRUE(absl::IsFailedPrecondition(Prepare("out").status()));
}

TEST_F(PrepareTest, StopRequest_EndsItWithoutAManifest) {
  Observer stopping(/*stop_after=*/1);
  const auto prepared = PrepareDataset(spec_, Output("out"), {}, stopping);
  EXPECT_TRUE(absl::IsCancelled(prepared.status()));
  EXPECT_FALSE(FileExists(folder_.File("out/manifest.json")));
}

TEST_F(PrepareTest, DamagedDataset_IsRefusedNamingTheFile) {
  ASSERT_TRUE(Prepare("out").ok());
  const std::string shard = folder_.File("out/train/c4.tokens");
  const std::string good = *ReadFile(shard);
  std::string bad = good;
  bad[bad.size() / 2] ^= 1;
  folder_.Write("out/train/c4.tokens", bad);
  EXPECT_THAT(Message(Dataset::Open(folder_.File("out")).status()), HasSubstr("train/c4.tokens"));
  // A sound shard, but not the one of this dataset.
  folder_.Write("out/train/c4.tokens", *ReadFile(folder_.File("out/heldout/c4.tokens")));
  EXPECT_THAT(Message(Dataset::Open(folder_.File("out")).status()), HasSubstr("train/c4.tokens"));
  std::filesystem::remove(shard);
  EXPECT_FALSE(Dataset::Open(folder_.File("out")).ok());
  folder_.Write("out/train/c4.tokens", good);
  EXPECT_TRUE(Dataset::Open(folder_.File("out")).ok());
}

}  // namespace
}  // namespace moe::sampler
