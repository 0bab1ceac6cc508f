#include "coordinator/job_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>

#include "common/status.h"
#include "tests/published_shapes.h"

namespace moe::coordinator {
namespace {

using ::testing::HasSubstr;

// A world in which every path under /models is a dense model and every other path is text, unless
// it is told otherwise.
class FakeFacts final : public SpecFacts {
 public:
  bool HoldsModel(const std::string& path) const override { return path.ends_with(".gguf"); }
  absl::StatusOr<ModelFacts> ReadModel(const std::string& path) const override {
    const auto it = models.find(path);
    if (it != models.end()) return it->second;
    return ModelFacts{.vocab_size = 49152,
                      .intermediate_size = 1536,
                      .context_length = 8192,
                      .num_experts = 0,
                      .num_layers = 0};
  }
  absl::Status CheckReadable(const std::string& path, bool* is_empty) const override {
    *is_empty = empty.contains(path);
    return missing.contains(path) ? NotFound("{} does not exist", path) : absl::OkStatus();
  }
  const v1::Artefact* FindArtefact(const std::string& reference) const override {
    const auto it = artefacts.find(reference);
    return it == artefacts.end() ? nullptr : &it->second;
  }

  std::map<std::string, absl::StatusOr<ModelFacts>> models;
  std::set<std::string> missing;
  std::set<std::string> empty;
  std::map<std::string, v1::Artefact> artefacts;
};

v1::Artefact Dataset(int64_t vocab_size) {
  v1::Artefact artefact;
  artefact.set_name("corpus");
  artefact.set_version(1);
  artefact.set_kind(v1::ARTEFACT_KIND_DATASET);
  (*artefact.mutable_metadata()->mutable_fields())["vocab_size"].set_number_value(
      static_cast<double>(vocab_size));
  return artefact;
}

// The pipeline of the examples, in short: every test breaks one thing in it.
struct Pipeline {
  Pipeline() {
    jobs.resize(5);
    jobs[0].set_name("corpus");
    v1::PrepareSpec& prepare = *jobs[0].mutable_prepare();
    prepare.mutable_tokenizer()->set_path("/models/smollm2.gguf");
    for (const char* name : {"wikipedia", "books"}) {
      v1::DomainInput& domain = *prepare.add_domains();
      domain.set_name(name);
      domain.add_paths(std::string("/text/") + name);
    }
    jobs[1].set_name("construct");
    jobs[1].mutable_construct()->mutable_model()->set_path("/models/smollm2.gguf");
    jobs[1].mutable_construct()->set_method("independent-random");
    jobs[1].mutable_construct()->set_output("moe");
    jobs[2].set_name("train");
    jobs[2].mutable_train()->mutable_model()->set_artefact("moe");
    jobs[2].mutable_train()->mutable_dataset()->set_artefact("corpus");
    jobs[2].mutable_train()->set_steps(40);
    jobs[2].mutable_train()->set_output("trained");
    jobs[3].set_name("evaluate");
    jobs[3].mutable_evaluate()->add_models()->mutable_model()->set_path("/models/smollm2.gguf");
    jobs[3].mutable_evaluate()->add_models()->mutable_model()->set_artefact("trained");
    jobs[3].mutable_evaluate()->mutable_dataset()->set_artefact("corpus");
    jobs[4].set_name("export");
    jobs[4].mutable_export_()->mutable_model()->set_artefact("trained");
  }
  // The whole shape of the dense model, from which that of the constructed one follows.
  void KnowShape() {
    facts.models["/models/smollm2.gguf"] = ModelFacts{.vocab_size = 49152,
                                                      .intermediate_size = 1536,
                                                      .context_length = 8192,
                                                      .num_experts = 0,
                                                      .num_layers = 30,
                                                      .shape = published::SmolLm2()};
  }
  v1::PrepareSpec& prepare() { return *jobs[0].mutable_prepare(); }
  v1::ConstructSpec& construct() { return *jobs[1].mutable_construct(); }
  v1::TrainSpec& train() { return *jobs[2].mutable_train(); }
  v1::EvaluateSpec& evaluate() { return *jobs[3].mutable_evaluate(); }

  std::vector<v1::JobSpec> jobs;
  FakeFacts facts;
};

TEST(JobSpecTest, GoodPipeline_GetsDefaultsAndNeeds) {
  Pipeline p;
  const auto complete = CompletePipeline(p.jobs, p.facts);
  ASSERT_TRUE(complete.ok()) << complete.status();
  EXPECT_EQ((*complete)[2].needs, (std::vector<int>{0, 1}));
  EXPECT_EQ((*complete)[3].needs, (std::vector<int>{0, 2}));
  EXPECT_EQ((*complete)[4].needs, (std::vector<int>{2}));
  const v1::ConstructSpec& construct = (*complete)[1].spec.construct();
  EXPECT_EQ(construct.num_experts(), 16);
  EXPECT_EQ(construct.top_k(), 4);
  EXPECT_EQ(construct.score_scale_factor(), 4.0);
  EXPECT_EQ(construct.seed(), 1227);
  const v1::TrainSpec& train = (*complete)[2].spec.train();
  EXPECT_EQ(train.optimizer().learning_rate(), 2e-4);
  EXPECT_EQ(train.mixture().preset(), "llama1");
  EXPECT_EQ(train.checkpoint().keep(), 2);
  EXPECT_TRUE(train.gate_noise());
  EXPECT_TRUE(train.has_reset_attention_mask());
  EXPECT_FALSE(train.reset_attention_mask());
  EXPECT_EQ(train.watch().on_non_finite(), "skip");
  EXPECT_EQ(train.start(), "pretrained");
  EXPECT_EQ(train.collective_timeout_seconds(), 120);
  EXPECT_EQ((*complete)[3].spec.evaluate().models(0).label(), "smollm2.gguf");
  EXPECT_EQ((*complete)[0].spec.max_infrastructure_retries(), 10);
  EXPECT_EQ((*complete)[0].spec.prepare().output(), "corpus");
}

TEST(CompletePipeline, ExpertsAmongRanks_OfAModelThatHasThem_AreAccepted) {
  Pipeline p;
  p.KnowShape();
  p.jobs[2].mutable_resources()->set_slots(4);
  p.train().set_global_batch_samples(16);
  p.train().mutable_parallel()->set_expert(2);
  const auto complete = CompletePipeline(p.jobs, p.facts);
  ASSERT_TRUE(complete.ok()) << ToString(complete.status());
  EXPECT_EQ((*complete)[2].spec.train().parallel().expert(), 2);
}

// A pipeline whose dataset holds conversations and whose third job tunes on it.
Pipeline Finetuning() {
  Pipeline p;
  p.jobs[0].mutable_prepare()->mutable_conversations();
  v1::TrainSpec spec = p.train();
  spec.clear_steps();
  *p.jobs[2].mutable_finetune() = spec;
  return p;
}

TEST(CompletePipeline, Finetune_GetsThePublishedDefaults) {
  const Pipeline p = Finetuning();
  const auto complete = CompletePipeline(p.jobs, p.facts);
  ASSERT_TRUE(complete.ok()) << ToString(complete.status());
  EXPECT_EQ((*complete)[0].spec.prepare().conversations().max_tokens(), 2048);
  const v1::TrainSpec& spec = (*complete)[2].spec.finetune();
  EXPECT_EQ(spec.epochs(), 2);
  EXPECT_EQ(spec.steps(), 0);
  EXPECT_EQ(spec.optimizer().learning_rate(), 2e-5);
  EXPECT_EQ(spec.optimizer().final_learning_rate_ratio(), 0);
  EXPECT_EQ(spec.optimizer().weight_decay(), 0);
  EXPECT_FALSE(spec.optimizer().has_warmup_steps()) << "3 % of steps that only the rank knows";
  ASSERT_EQ(spec.optimizer().groups_size(), 1);
  EXPECT_EQ(spec.optimizer().groups(0).parameters(), "gates");
  EXPECT_EQ(spec.optimizer().groups(0).learning_rate_ratio(), 0);
  EXPECT_EQ(spec.global_batch_samples(), 128);
  EXPECT_EQ(spec.sequence_length(), 2048);
  EXPECT_EQ(spec.mixture().preset(), "proportional");
  EXPECT_EQ(OutputKind((*complete)[2].spec), v1::ARTEFACT_KIND_CHECKPOINT);
  EXPECT_EQ(KindName((*complete)[2].spec), "finetune");
}

TEST(CompletePipeline, Finetune_RefusesWhatIsForTrainJobs) {
  const auto problem = [](auto change) {
    Pipeline p = Finetuning();
    change(*p.jobs[2].mutable_finetune());
    return ToString(CompletePipeline(p.jobs, p.facts).status());
  };
  EXPECT_THAT(problem([](v1::TrainSpec& s) {
                s.set_steps(3);
                s.set_epochs(1);
              }),
              testing::HasSubstr("steps=3 and epochs=1 are both given"));
  EXPECT_THAT(problem([](v1::TrainSpec& s) { s.set_epochs(0); }), testing::HasSubstr("epochs=0"));
  EXPECT_THAT(problem([](v1::TrainSpec& s) { s.set_start("random"); }),
              testing::HasSubstr("start='random'"));
  EXPECT_THAT(problem([](v1::TrainSpec& s) { s.mutable_mixture()->mutable_dynamic(); }),
              testing::HasSubstr("mixture.dynamic is for train jobs"));
  EXPECT_THAT(problem([](v1::TrainSpec& s) { s.set_reset_attention_mask(true); }),
              testing::HasSubstr("reset_attention_mask is for train jobs"));
}

TEST(CompletePipeline, RopeScaling_MakesRoomForLongerSequences) {
  Pipeline p;
  p.train().set_sequence_length(2 * 8192);
  EXPECT_THAT(ToString(CompletePipeline(p.jobs, p.facts).status()),
              testing::HasSubstr("sequence_length=16384 is above the context"));
  p.train().mutable_rope_scaling()->set_type("dynamic");
  p.train().mutable_rope_scaling()->set_factor(2);
  EXPECT_TRUE(CompletePipeline(p.jobs, p.facts).ok())
      << ToString(CompletePipeline(p.jobs, p.facts).status());
}

TEST(JobSpecTest, CalibratedConstruct_SharesAllButTwoOfTheExpertsOfAToken) {
  Pipeline p;
  p.construct().mutable_calibrate()->mutable_dataset()->set_artefact("corpus");
  p.construct().set_num_experts(32);
  p.construct().set_top_k(8);
  const auto complete = CompletePipeline(p.jobs, p.facts);
  ASSERT_TRUE(complete.ok()) << complete.status();
  EXPECT_EQ((*complete)[1].spec.construct().calibrate().shared_experts(), 6);
}

TEST(JobSpecTest, CalibratedConstruct_GetsDefaultsAndReadsTheDataset) {
  Pipeline p;
  p.construct().mutable_calibrate()->mutable_dataset()->set_artefact("corpus");
  p.evaluate().set_top_k(14);
  const auto complete = CompletePipeline(p.jobs, p.facts);
  ASSERT_TRUE(complete.ok()) << complete.status();
  const v1::JobSpec& spec = (*complete)[1].spec;
  const v1::Calibration& calibrate = spec.construct().calibrate();
  EXPECT_EQ(calibrate.tokens(), 8192);
  EXPECT_EQ(calibrate.shared_experts(), 2);
  EXPECT_DOUBLE_EQ(calibrate.active_ffn_share(), 0.325);
  EXPECT_TRUE(calibrate.compensate());
  EXPECT_TRUE(calibrate.has_fit_experts());
  EXPECT_FALSE(calibrate.fit_experts());
  EXPECT_TRUE(calibrate.has_mean_vector());
  EXPECT_FALSE(spec.construct().learn_scale());
  EXPECT_EQ((*complete)[1].needs, (std::vector<int>{0})) << "the dataset's job comes first";
  EXPECT_EQ(InputsOf(spec).count("calibrate.dataset"), 1u);
}

TEST(JobSpecTest, FiltersOfPrepare_GetTheSharesAndDomainsOfThePaper) {
  Pipeline p;
  p.prepare().mutable_domains(0)->set_name("c4");
  p.prepare().mutable_domains(1)->set_name("github");
  p.prepare().add_filters()->set_score("fluency");
  p.prepare().add_filters()->set_score("advertisement");
  p.prepare().mutable_near_duplicates();
  p.prepare().mutable_language()->add_languages("en");
  const auto complete = CompletePipeline(p.jobs, p.facts);
  ASSERT_TRUE(complete.ok()) << complete.status();
  const v1::PrepareSpec& prepare = (*complete)[0].spec.prepare();
  EXPECT_EQ(prepare.filters(0).drop(), 0.15);
  EXPECT_EQ(prepare.filters(1).drop(), 0.5);
  for (const v1::ScoreFilter& filter : prepare.filters()) {
    EXPECT_THAT(filter.domains(), ::testing::ElementsAre("c4"));
  }
  EXPECT_EQ(prepare.near_duplicates().similarity(), 0.8);
  EXPECT_EQ(prepare.language().min_share(), 0.5);
  EXPECT_THAT(prepare.language().domains(), ::testing::ElementsAre("c4")) << "not source code";
}

TEST(JobSpecTest, KnownScoresOfPrepare_AreAnInput) {
  Pipeline p;
  p.facts.artefacts["scored:1"] = Dataset(49152);
  p.prepare().mutable_scores_from()->set_artefact("scored:1");
  p.prepare().add_filters()->set_score("fluency");
  p.prepare().mutable_filters(0)->add_domains("books");
  const auto complete = CompletePipeline(p.jobs, p.facts);
  ASSERT_TRUE(complete.ok()) << complete.status();
  EXPECT_EQ(InputsOf((*complete)[0].spec).at("scores_from").artefact(), "scored:1");
}

TEST(JobSpecTest, Export_OfADenseModel_IsLlamaByDefault) {
  Pipeline p;
  p.jobs[4].mutable_export_()->mutable_model()->set_path("/models/smollm2.gguf");
  const auto complete = CompletePipeline(p.jobs, p.facts);
  ASSERT_TRUE(complete.ok()) << complete.status();
  EXPECT_EQ((*complete)[4].spec.export_().format(), "llama");
  EXPECT_EQ((*CompletePipeline(Pipeline().jobs, p.facts))[4].spec.export_().format(), "llama-moe");
}

TEST(JobSpecTest, SharingInter_GetsItsDefaults_AndWaitsForItsText) {
  Pipeline p;
  p.construct().set_method("sharing-inter");
  p.construct().mutable_importance()->mutable_dataset()->set_artefact("corpus");
  const auto complete = CompletePipeline(p.jobs, p.facts);
  ASSERT_TRUE(complete.ok()) << complete.status();
  EXPECT_EQ((*complete)[1].needs, (std::vector<int>{0}));
  const v1::ConstructSpec& construct = (*complete)[1].spec.construct();
  EXPECT_EQ(construct.num_experts(), 14);
  EXPECT_EQ(construct.num_shared_experts(), 2);
  EXPECT_EQ(construct.expert_width(), 96);
  EXPECT_EQ(construct.shared_scale_factor(), 0.5);
  EXPECT_EQ(construct.importance().kernel(), "l1");
}

TEST(JobSpecTest, DynamicMixture_DecidesEvery2500MillionTokensAndNeedsItsReference) {
  Pipeline p;
  p.train().mutable_mixture()->mutable_dynamic()->mutable_reference()->set_artefact("dense");
  p.jobs[3].set_name("dense");
  p.evaluate().mutable_models()->RemoveLast();  // the trained one, which needs train
  const auto complete = CompletePipeline(p.jobs, p.facts);
  ASSERT_TRUE(complete.ok()) << complete.status();
  EXPECT_EQ((*complete)[2].needs, (std::vector<int>{0, 1, 3}));
  const v1::DynamicMixture& dynamic = (*complete)[2].spec.train().mixture().dynamic();
  EXPECT_EQ(dynamic.rule(), "sheared");
  EXPECT_EQ(dynamic.interval_tokens(), 2'500'000'000);
  EXPECT_EQ(dynamic.interval_steps(), 76294);  // of 8 x 4096 tokens
  EXPECT_EQ(dynamic.heldout_samples(), 16);
  // What is stored can be submitted again.
  std::vector<v1::JobSpec> again;
  for (const CompleteJob& job : *complete) again.push_back(job.spec);
  EXPECT_TRUE(CompletePipeline(again, p.facts).ok());
}

v1::Artefact Checkpoint(int64_t step) {
  v1::Artefact artefact;
  artefact.set_name("trained");
  artefact.set_version(3);
  artefact.set_kind(v1::ARTEFACT_KIND_CHECKPOINT);
  artefact.set_step(step);
  return artefact;
}

TEST(JobSpecTest, Continue_FromACheckpointBeforeTheLastStep_IsTaken) {
  Pipeline p;
  p.facts.artefacts["trained:3"] = Checkpoint(39);
  p.train().set_start("continue");
  p.train().mutable_model()->set_artefact("trained:3");
  const auto complete = CompletePipeline(p.jobs, p.facts);
  ASSERT_TRUE(complete.ok()) << complete.status();
}

struct BadCase {
  const char* name;
  std::function<void(Pipeline&)> change;
  std::vector<std::string> expected;  // parts of the message
};

class BadSpecTest : public ::testing::TestWithParam<BadCase> {};

TEST_P(BadSpecTest, IsRefusedWithJobFieldValueLimitAndFix) {
  Pipeline p;
  GetParam().change(p);
  const auto complete = CompletePipeline(p.jobs, p.facts);
  ASSERT_EQ(complete.status().code(), absl::StatusCode::kInvalidArgument);
  for (const std::string& part : GetParam().expected) {
    EXPECT_THAT(Message(complete.status()), HasSubstr(part));
  }
}

INSTANTIATE_TEST_SUITE_P(
    AllKinds, BadSpecTest,
    ::testing::Values(
        BadCase{"NoJobs", [](Pipeline& p) { p.jobs.clear(); }, {"no jobs"}},
        BadCase{"BadName", [](Pipeline& p) { p.jobs[0].set_name("Corpus_1"); },
                {"name='Corpus_1'", "lower-case letters, digits and dashes"}},
        BadCase{"SameName", [](Pipeline& p) { p.jobs[1].set_name("corpus"); },
                {"name='corpus' is used twice"}},
        BadCase{"SameOutput", [](Pipeline& p) { p.construct().set_output("corpus"); },
                {"job 'construct'", "output='corpus'", "job 'corpus'"}},
        BadCase{"NoKind", [](Pipeline& p) { p.jobs[0].clear_kind(); }, {"has no kind"}},
        BadCase{"UnknownNeed", [](Pipeline& p) { p.jobs[1].add_needs("corpsu"); },
                {"job 'construct'", "needs 'corpsu'", "did you mean 'corpus'?"}},
        BadCase{"Cycle", [](Pipeline& p) { p.jobs[0].add_needs("train"); },
                {"corpus -> train -> corpus"}},
        BadCase{"CycleOfOutcomes", [](Pipeline& p) { p.jobs[0].add_after_any("train"); },
                {"waits for itself", "corpus -> train -> corpus"}},
        BadCase{"UnknownOutcome", [](Pipeline& p) { p.jobs[1].add_after_not_ok("corpsu"); },
                {"after_not_ok: 'corpsu'", "nor the id of an earlier one",
                 "did you mean 'corpus'?"}},
        BadCase{"MustSucceedAndFail",
                [](Pipeline& p) {
                  p.jobs[1].add_needs("corpus");
                  p.jobs[1].add_after_not_ok("corpus");
                },
                {"'corpus' must fail and must succeed as well"}},
        BadCase{"UnknownQueue", [](Pipeline& p) { p.jobs[0].set_queue("defaultt"); },
                {"queue='defaultt' is not known", "did you mean 'default'?"}},
        BadCase{"MemoryOfNothing",
                [](Pipeline& p) { p.jobs[0].mutable_resources()->set_memory_gib(-1); },
                {"resources.memory_gib=-1"}},
        BadCase{"TimeLimit", [](Pipeline& p) { p.jobs[0].set_time_limit_seconds(-5); },
                {"time_limit_seconds=-5"}},
        BadCase{"NoticeLongerThanHalf",
                [](Pipeline& p) {
                  p.jobs[0].set_time_limit_seconds(60);
                  p.jobs[0].set_time_limit_notice_seconds(31);
                },
                {"time_limit_notice_seconds=31", "0 to 30"}},
        BadCase{"NoticeOfNothing",
                [](Pipeline& p) { p.jobs[0].set_time_limit_notice_seconds(31); },
                {"without a time limit"}},
        BadCase{"UserRetries", [](Pipeline& p) { p.jobs[0].set_max_user_retries(-1); },
                {"max_user_retries=-1"}},
        BadCase{"ArrayOfNothing", [](Pipeline& p) { p.jobs[1].mutable_array(); },
                {"array.size=0", "1 to 100000"}},
        BadCase{"BadElement",
                [](Pipeline& p) {
                  v1::ArrayField& field = *p.jobs[1].mutable_array()->add_fields();
                  field.set_field("construct.num_experts");
                  field.add_values("8");
                  field.add_values("7");
                },
                {"construct-1", "num_experts=7 does not divide"}},
        BadCase{"LabelWithEquals",
                [](Pipeline& p) { (*p.jobs[0].mutable_labels())["a=b"] = "c"; },
                {"labels.a=b", "no '='"}},
        BadCase{"Priority", [](Pipeline& p) { p.jobs[0].set_priority(1001); },
                {"priority=1001", "-1000 to 1000"}},
        BadCase{"SlotsOfPrepare", [](Pipeline& p) { p.jobs[0].mutable_resources()->set_slots(2); },
                {"resources.slots=2", "only train and finetune"}},
        BadCase{"Parquet",
                [](Pipeline& p) { p.prepare().mutable_domains(1)->add_paths("/text/b.parquet"); },
                {"domain 'books': /text/b.parquet is a Parquet file", "name /text/b.jsonl"}},
        BadCase{"UnknownScore", [](Pipeline& p) { p.prepare().add_filters()->set_score("fluent"); },
                {"filters.score='fluent'", "did you mean 'fluency'?"}},
        BadCase{"FilterWithoutDomain",
                [](Pipeline& p) { p.prepare().add_filters()->set_score("fluency"); },
                {"the filter by fluency has no domain", "commoncrawl and c4"}},
        BadCase{"FilterOfUnknownDomain",
                [](Pipeline& p) {
                  p.prepare().add_filters()->set_score("fluency");
                  p.prepare().mutable_filters(0)->add_domains("book");
                },
                {"filters.domains='book'", "did you mean 'books'?"}},
        BadCase{"FilterTwice",
                [](Pipeline& p) {
                  for (int i = 0; i < 2; ++i) {
                    p.prepare().add_filters()->set_score("fluency");
                    p.prepare().mutable_filters(i)->add_domains("books");
                  }
                },
                {"'books' is filtered by fluency twice"}},
        BadCase{"FilterDropsNearlyAll",
                [](Pipeline& p) {
                  p.prepare().add_filters()->set_score("fluency");
                  p.prepare().mutable_filters(0)->set_drop(0.96);
                },
                {"filters.drop=0.96", "0 to 0.95"}},
        BadCase{"SimilarityTooLow",
                [](Pipeline& p) { p.prepare().mutable_near_duplicates()->set_similarity(0.2); },
                {"near_duplicates.similarity=0.2", "0.5 to 1"}},
        BadCase{"LanguageMissing", [](Pipeline& p) { p.prepare().mutable_language(); },
                {"language.languages is empty"}},
        BadCase{"LanguageNoCode",
                [](Pipeline& p) { p.prepare().mutable_language()->add_languages("English"); },
                {"language.languages='English'", "two letters"}},
        BadCase{"MaxBelowMin",
                [](Pipeline& p) {
                  p.prepare().set_min_characters(10);
                  p.prepare().set_max_characters(5);
                },
                {"max_characters=5 is below min_characters=10"}},
        BadCase{"ScoresWithoutFilter",
                [](Pipeline& p) {
                  p.facts.artefacts["scored:1"] = Dataset(49152);
                  p.prepare().mutable_scores_from()->set_artefact("scored:1");
                },
                {"scores_from is of no use without filters"}},
        BadCase{"ExpertsDoNotDivide", [](Pipeline& p) { p.construct().set_num_experts(7); },
                {"job 'construct'", "num_experts=7 does not divide the FFN width 1536",
                 "2, 3, 4, 6, 8, 12, 16"}},
        BadCase{"TopKAboveExperts", [](Pipeline& p) { p.construct().set_top_k(17); },
                {"top_k=17", "num_experts=16", "1 to 16"}},
        BadCase{"UnknownMethod", [](Pipeline& p) { p.construct().set_method("independant-random"); },
                {"method='independant-random'", "did you mean 'independent-random'?"}},
        BadCase{"NoTextForImportance",
                [](Pipeline& p) { p.construct().set_method("sharing-inner"); },
                {"method='sharing-inner'", "importance.dataset is missing", "prepare"}},
        BadCase{"TextOfAnotherVocabulary",
                [](Pipeline& p) {
                  p.facts.artefacts["other"] = Dataset(32000);
                  p.construct().set_method("prune-importance");
                  p.construct().mutable_importance()->mutable_dataset()->set_artefact("other");
                },
                {"49152", "32000"}},
        BadCase{"SharedAndRoutedDoNotDivide",
                [](Pipeline& p) {
                  p.construct().set_method("sharing-inter");
                  p.construct().mutable_importance()->mutable_dataset()->set_artefact("corpus");
                  p.construct().set_num_experts(12);
                  p.construct().set_num_shared_experts(2);
                },
                {"num_experts=12 + num_shared_experts=2 does not divide the FFN width 1536",
                 "expert_width"}},
        BadCase{"SizeTimesCountIsNotTheWidth",
                [](Pipeline& p) { p.construct().set_expert_width(100); },
                {"num_experts=16 of expert_width=100 hold 1600 neurons and the FFN has 1536"}},
        BadCase{"SharedExpertsLeaveNoRoom",
                [](Pipeline& p) {
                  p.construct().set_method("sharing-inter");
                  p.construct().mutable_importance()->mutable_dataset()->set_artefact("corpus");
                  p.construct().set_num_shared_experts(3);
                  p.construct().set_expert_width(512);
                },
                {"need 2048 neurons and the FFN has 1536", "at most 384"}},
        BadCase{"LayersOutOfOrder",
                [](Pipeline& p) {
                  for (const int layer : {3, 1}) p.construct().add_layers(layer);
                },
                {"layers=[3, 1] must ascend"}},
        BadCase{"LayerBeyondTheModel",
                [](Pipeline& p) {
                  p.facts.models["/models/smollm2.gguf"] = ModelFacts{.vocab_size = 49152,
                                                                      .intermediate_size = 1536,
                                                                      .context_length = 8192,
                                                                      .num_experts = 0,
                                                                      .num_layers = 30};
                  p.construct().add_layers(30);
                },
                {"layers=[30]", "30 layers; use 0 to 29"}},
        BadCase{"FieldOfAnotherMethod", [](Pipeline& p) { p.construct().set_retain(0.5); },
                {"retain has no meaning with method='independent-random'", "prune-random"}},
        BadCase{"RetainAboveOne",
                [](Pipeline& p) {
                  p.construct().set_method("prune-random");
                  p.construct().set_retain(1.5);
                },
                {"retain=1.5"}},
        BadCase{"UnknownMetric",
                [](Pipeline& p) {
                  p.construct().set_method("independent-clustering");
                  p.construct().mutable_clustering()->set_metric("cosin");
                },
                {"clustering.metric='cosin'", "did you mean 'cosine'?"}},
        BadCase{"UnknownGate", [](Pipeline& p) { p.construct().set_gate_network("mpl"); },
                {"gate_network='mpl'", "mlp, linear"}},
        BadCase{"SwitchToTwoExperts",
                [](Pipeline& p) {
                  p.construct().set_gate("switch");
                  p.construct().set_top_k(2);
                },
                {"top_k=2", "gate=switch", "use top_k=1"}},
        BadCase{"CapacityWithoutSwitch",
                [](Pipeline& p) { p.construct().set_capacity_factor(1.25); },
                {"capacity_factor=1.25 has no meaning with gate='noisy-top-k'"}},
        BadCase{"NegativeCapacity",
                [](Pipeline& p) {
                  p.construct().set_gate("switch");
                  p.construct().set_top_k(1);
                  p.construct().set_capacity_factor(-1);
                },
                {"capacity_factor=-1", "0 or more"}},
        BadCase{"GateThatIsNotThere", [](Pipeline& p) { p.construct().set_gate("switsh"); },
                {"gate='switsh'", "did you mean 'switch'?"}},
        BadCase{"SwitchForAPrunedModel",
                [](Pipeline& p) {
                  p.construct().set_method("prune-random");
                  p.construct().set_gate("switch");
                },
                {"gate has no meaning with method='prune-random'", "make experts"}},
        BadCase{"CalibrateASwitch",
                [](Pipeline& p) {
                  p.construct().set_gate("switch");
                  p.construct().mutable_calibrate()->mutable_dataset()->set_artefact("corpus");
                },
                {"gate=switch has no meaning with calibrate"}},
        BadCase{"TrainedGateWithoutText",
                [](Pipeline& p) { p.construct().set_gate_init("trained"); },
                {"gate_init=trained", "gate_training.dataset is missing"}},
        BadCase{"TrainedGateByAnUnknownTeacher",
                [](Pipeline& p) {
                  p.construct().set_gate_init("trained");
                  v1::GateTraining& training = *p.construct().mutable_gate_training();
                  training.mutable_dataset()->set_artefact("corpus");
                  training.set_teacher("l3");
                },
                {"gate_training.teacher", "l3", "positive"}},
        BadCase{"GateTrainingOfARandomGate",
                [](Pipeline& p) {
                  p.construct().mutable_gate_training()->mutable_dataset()->set_artefact("corpus");
                },
                {"gate_training has no meaning", "gate_init=trained"}},
        BadCase{"CalibrateAPrunedModel",
                [](Pipeline& p) {
                  p.construct().set_method("prune-random");
                  p.construct().mutable_calibrate()->mutable_dataset()->set_artefact("corpus");
                },
                {"calibrate has no meaning with method='prune-random'", "make experts"}},
        BadCase{"CalibrateWithAScale",
                [](Pipeline& p) {
                  p.construct().set_score_scale_factor(4);
                  p.construct().mutable_calibrate()->mutable_dataset()->set_artefact("corpus");
                },
                {"score_scale_factor has no meaning with calibrate"}},
        BadCase{"CalibrateTwoChoicesOfLayers",
                [](Pipeline& p) {
                  p.construct().add_layers(1);
                  v1::Calibration& calibrate = *p.construct().mutable_calibrate();
                  calibrate.mutable_dataset()->set_artefact("corpus");
                  calibrate.set_active_ffn_share(0.5);
                },
                {"calibrate.active_ffn_share=0.5", "layers=[1]", "give one of them"}},
        BadCase{"CalibrateSharedTwice",
                [](Pipeline& p) {
                  p.construct().set_method("sharing-inter");
                  p.construct().mutable_importance()->mutable_dataset()->set_artefact("corpus");
                  p.construct().set_num_experts(14);
                  v1::Calibration& calibrate = *p.construct().mutable_calibrate();
                  calibrate.mutable_dataset()->set_artefact("corpus");
                  calibrate.set_shared_experts(1);
                },
                {"calibrate.shared_experts=1", "num_shared_experts=2", "leave it out"}},
        BadCase{"CalibrateWithoutDataset", [](Pipeline& p) { p.construct().mutable_calibrate(); },
                {"job 'construct'", "calibrate.dataset"}},
        BadCase{"SharedExpertsNotBelowTopK",
                [](Pipeline& p) {
                  v1::Calibration& calibrate = *p.construct().mutable_calibrate();
                  calibrate.mutable_dataset()->set_artefact("corpus");
                  calibrate.set_shared_experts(4);
                },
                {"calibrate.shared_experts=4", "0 to 3"}},
        BadCase{"ActiveShareBelowTheExperts",
                [](Pipeline& p) {
                  v1::Calibration& calibrate = *p.construct().mutable_calibrate();
                  calibrate.mutable_dataset()->set_artefact("corpus");
                  calibrate.set_active_ffn_share(0.2);
                },
                {"calibrate.active_ffn_share=0.2", "0.25 to 1"}},
        BadCase{"CalibrateOnTooLittle",
                [](Pipeline& p) {
                  v1::Calibration& calibrate = *p.construct().mutable_calibrate();
                  calibrate.mutable_dataset()->set_artefact("corpus");
                  calibrate.set_tokens(100);
                },
                {"calibrate.tokens=100", "1024 to"}},
        BadCase{"EvaluateMoreExpertsThanThereAre",
                [](Pipeline& p) { p.evaluate().set_top_k(17); },
                {"job 'evaluate'", "top_k=17", "models.1", "1 to 16"}},
        BadCase{"UnknownExportFormat",
                [](Pipeline& p) { p.jobs[4].mutable_export_()->set_format("mixtrl"); },
                {"format='mixtrl'", "did you mean 'mixtral'?"}},
        BadCase{"DenseModelAsMixtral",
                [](Pipeline& p) {
                  p.jobs[4].mutable_export_()->mutable_model()->set_path("/models/smollm2.gguf");
                  p.jobs[4].mutable_export_()->set_format("mixtral");
                },
                {"format='mixtral'", "the model is dense", "llama"}},
        BadCase{"ScaleNotFinite",
                [](Pipeline& p) { p.construct().set_score_scale_factor(std::nan("")); },
                {"score_scale_factor=nan"}},
        BadCase{"TruncatedModel",
                [](Pipeline& p) {
                  p.facts.models["/models/smollm2.gguf"] = DataLoss("tensor x ends beyond the file");
                },
                {"tensor x ends beyond the file"}},
        BadCase{"MissingModel",
                [](Pipeline& p) { p.facts.missing.insert("/models/smollm2.gguf"); },
                {"/models/smollm2.gguf does not exist"}},
        BadCase{"RelativePath",
                [](Pipeline& p) { p.construct().mutable_model()->set_path("smollm2.gguf"); },
                {"model='smollm2.gguf'", "absolute"}},
        BadCase{"ModelIsMoeAlready",
                [](Pipeline& p) {
                  p.construct().mutable_model()->set_path("/models/moe");
                  p.facts.models["/models/moe"] = ModelFacts{49152, 1536, 8192, 16};
                },
                {"mixture of 16 experts already"}},
        BadCase{"GroupTwice",
                [](Pipeline& p) {
                  p.train().mutable_optimizer()->add_groups()->set_parameters("gates");
                  p.train().mutable_optimizer()->add_groups()->set_parameters("gates");
                },
                {"job 'train'", "optimizer.groups names 'gates' twice"}},
        BadCase{"UnknownGroup",
                [](Pipeline& p) {
                  p.train().mutable_optimizer()->add_groups()->set_parameters("gate");
                },
                {"optimizer.groups.parameters='gate'", "did you mean 'gates'?"}},
        BadCase{"EverythingFrozen",
                [](Pipeline& p) {
                  for (const char* name : {"embeddings", "attention", "ffn", "gates", "norms"}) {
                    v1::ParameterGroup& group = *p.train().mutable_optimizer()->add_groups();
                    group.set_parameters(name);
                    group.set_learning_rate_ratio(0);
                  }
                },
                {"nothing is left to train"}},
        BadCase{"UnknownWatchAction",
                [](Pipeline& p) { p.train().mutable_watch()->set_on_non_finite("report"); },
                {"watch.on_non_finite='report'", "skip, rollback, stop"}},
        BadCase{"WindowTooShort",
                [](Pipeline& p) { p.train().mutable_watch()->set_window_steps(4); },
                {"watch.window_steps=4", "8 to 10000"}},
        BadCase{"EpochsOfATrainJob", [](Pipeline& p) { p.train().set_epochs(1); },
                {"epochs is for finetune jobs"}},
        BadCase{"ValidationNever",
                [](Pipeline& p) { p.train().mutable_validation()->set_interval_steps(0); },
                {"validation.interval_steps=0", "1 or more"}},
        BadCase{"AverageThatForgetsNothing",
                [](Pipeline& p) { p.train().mutable_weight_average()->set_decay(1.0); },
                {"weight_average.decay=1", "0 to 0.9999999"}},
        BadCase{"UnknownRopeScaling",
                [](Pipeline& p) {
                  p.train().mutable_rope_scaling()->set_type("ntk");
                  p.train().mutable_rope_scaling()->set_factor(2);
                },
                {"rope_scaling.type='ntk'", "linear, dynamic, llama3"}},
        BadCase{"RopeScalingWithoutFactor",
                [](Pipeline& p) { p.train().mutable_rope_scaling()->set_type("linear"); },
                {"rope_scaling.factor is missing"}},
        BadCase{"FrequenciesOfLinearRope",
                [](Pipeline& p) {
                  p.train().mutable_rope_scaling()->set_type("linear");
                  p.train().mutable_rope_scaling()->set_factor(2);
                  p.train().mutable_rope_scaling()->set_low_freq_factor(1);
                },
                {"low_freq_factor", "for llama3, not for linear"}},
        BadCase{"RunningTextForFinetune",
                [](Pipeline& p) { *p.jobs[2].mutable_finetune() = v1::TrainSpec(p.train()); },
                {"finetune needs conversations"}},
        BadCase{"ConversationsForTrain",
                [](Pipeline& p) { p.jobs[0].mutable_prepare()->mutable_conversations(); },
                {"train needs running text"}},
        BadCase{"UnknownTemplate",
                [](Pipeline& p) {
                  p.jobs[0].mutable_prepare()->mutable_conversations()->set_template_("alpaca");
                },
                {"conversations.template='alpaca'", "vicuna"}},
        BadCase{"ShortConversations",
                [](Pipeline& p) {
                  p.jobs[0].mutable_prepare()->mutable_conversations()->set_max_tokens(8);
                },
                {"conversations.max_tokens=8", "16 or more"}},
        BadCase{"UnknownWeights",
                [](Pipeline& p) { p.jobs[4].mutable_export_()->set_weights("best"); },
                {"weights='best'", "latest, average"}},
        BadCase{"ExpertsAmongNoRanks",
                [](Pipeline& p) { p.train().mutable_parallel()->set_expert(0); },
                {"parallel.expert=0", "1 or more"}},
        BadCase{"ExpertsAmongMoreRanksThanThereAre",
                [](Pipeline& p) { p.train().mutable_parallel()->set_expert(2); },
                {"parallel.expert=2 does not divide the 1 slots", "use one of 1"}},
        BadCase{"ExpertsAmongUnevenGroups",
                [](Pipeline& p) {
                  p.jobs[2].mutable_resources()->set_slots(6);
                  p.train().set_global_batch_samples(24);
                  p.train().mutable_parallel()->set_expert(4);
                },
                {"parallel.expert=4 does not divide the 6 slots", "use one of 1, 2, 3, 6"}},
        BadCase{"ExpertsThatCannotBeSharedOut",
                [](Pipeline& p) {
                  p.KnowShape();
                  p.jobs[2].mutable_resources()->set_slots(3);
                  p.train().set_global_batch_samples(12);
                  p.train().mutable_parallel()->set_expert(3);
                },
                {"parallel.expert=3", "16 experts of 96 x 576", "use one of 1, 2, 4, 8, 16"}},
        BadCase{"ExpertsOfADenseModel",
                [](Pipeline& p) {
                  p.KnowShape();
                  p.jobs[2].mutable_resources()->set_slots(2);
                  p.train().mutable_model()->set_path("/models/smollm2.gguf");
                  p.train().mutable_parallel()->set_expert(2);
                },
                {"parallel.expert=2", "the model is dense; leave it out"}},
        BadCase{"UnknownStart", [](Pipeline& p) { p.train().set_start("scratch"); },
                {"start='scratch'", "pretrained, random"}},
        BadCase{"ContinueFromAModel", [](Pipeline& p) { p.train().set_start("continue"); },
                {"start='continue'", "model is a model", "checkpoint"}},
        BadCase{"ContinueFromAPath",
                [](Pipeline& p) {
                  p.train().set_start("continue");
                  p.train().mutable_model()->set_path("/models/smollm2.gguf");
                },
                {"start='continue'", "model is a path", "checkpoint"}},
        BadCase{"ContinueAtTheEnd",
                [](Pipeline& p) {
                  p.facts.artefacts["trained:3"] = Checkpoint(40);
                  p.train().set_start("continue");
                  p.train().mutable_model()->set_artefact("trained:3");
                },
                {"steps=40", "at step 40 already", "more steps"}},
        BadCase{"UnknownArtefact",
                [](Pipeline& p) { p.train().mutable_model()->set_artefact("meo"); },
                {"model='meo'", "catalogue", "did you mean 'moe'?"}},
        BadCase{"WrongKindOfArtefact",
                [](Pipeline& p) { p.train().mutable_dataset()->set_artefact("moe"); },
                {"dataset='moe' is a model"}},
        BadCase{"NoInput", [](Pipeline& p) { p.train().clear_model(); }, {"model is missing"}},
        BadCase{"VocabularyMismatch",
                [](Pipeline& p) {
                  p.facts.artefacts["corpus:1"] = Dataset(32000);
                  p.train().mutable_dataset()->set_artefact("corpus:1");
                },
                {"49152", "32000", "own tokenizer"}},
        BadCase{"NoSteps", [](Pipeline& p) { p.train().clear_steps(); }, {"steps=0", "1 or more"}},
        BadCase{"BatchNotAMultiple",
                [](Pipeline& p) {
                  p.jobs[2].mutable_resources()->set_slots(3);
                  p.train().set_global_batch_samples(8);
                },
                {"global_batch_samples=8", "4 x 3 = 12", "use 12"}},
        BadCase{"SequenceAboveContext",
                [](Pipeline& p) { p.train().set_sequence_length(8193); },
                {"sequence_length=8193", "8192"}},
        BadCase{"UnknownDtype", [](Pipeline& p) { p.train().set_compute_dtype("fp8"); },
                {"compute_dtype='fp8'", "bf16, fp32"}},
        BadCase{"UnknownPreset", [](Pipeline& p) { p.train().mutable_mixture()->set_preset("llama"); },
                {"mixture.preset='llama'", "did you mean 'llama1'?"}},
        BadCase{"PresetAndWeights",
                [](Pipeline& p) {
                  p.train().mutable_mixture()->set_preset("llama1");
                  (*p.train().mutable_mixture()->mutable_weights())["books"] = 1;
                },
                {"both preset='llama1' and weights"}},
        BadCase{"WeightOfNoDomain",
                [](Pipeline& p) {
                  (*p.train().mutable_mixture()->mutable_weights())["book"] = 1;
                },
                {"mixture.weights.book", "did you mean 'books'?"}},
        BadCase{"WeightNotPositive",
                [](Pipeline& p) {
                  (*p.train().mutable_mixture()->mutable_weights())["books"] = 0;
                },
                {"mixture.weights.books=0", "above 0"}},
        BadCase{"DynamicWithoutReference",
                [](Pipeline& p) { p.train().mutable_mixture()->mutable_dynamic(); },
                {"either reference_losses", "or reference"}},
        BadCase{"DynamicUnknownRule",
                [](Pipeline& p) {
                  p.train().mutable_mixture()->mutable_dynamic()->set_rule("papr");
                },
                {"mixture.dynamic.rule='papr'", "did you mean 'paper'?"}},
        BadCase{"DynamicReferenceOfUnknownDomain",
                [](Pipeline& p) {
                  v1::DynamicMixture& dynamic = *p.train().mutable_mixture()->mutable_dynamic();
                  (*dynamic.mutable_reference_losses())["book"] = 2;
                },
                {"mixture.dynamic.reference_losses.book", "did you mean 'books'?"}},
        BadCase{"DynamicReferenceThatIsNoReport",
                [](Pipeline& p) {
                  v1::DynamicMixture& dynamic = *p.train().mutable_mixture()->mutable_dynamic();
                  *dynamic.mutable_reference() = p.train().dataset();
                },
                {"mixture.dynamic.reference", "give a report"}},
        BadCase{"DynamicBothIntervals",
                [](Pipeline& p) {
                  v1::DynamicMixture& dynamic = *p.train().mutable_mixture()->mutable_dynamic();
                  (*dynamic.mutable_reference_losses())["books"] = 2;
                  dynamic.set_interval_steps(5);
                  dynamic.set_interval_tokens(1);
                },
                {"interval_tokens=1 and interval_steps=5"}},
        BadCase{"LearningRate",
                [](Pipeline& p) { p.train().mutable_optimizer()->set_learning_rate(-1); },
                {"optimizer.learning_rate=-1"}},
        BadCase{"KeepNothing", [](Pipeline& p) { p.train().mutable_checkpoint()->set_keep(0); },
                {"checkpoint.keep=0", "1 or more"}},
        BadCase{"NoDomains", [](Pipeline& p) { p.prepare().clear_domains(); },
                {"domains is empty"}},
        BadCase{"DomainTwice",
                [](Pipeline& p) { p.prepare().mutable_domains(1)->set_name("wikipedia"); },
                {"domain 'wikipedia' is given twice"}},
        BadCase{"DomainWithoutPaths",
                [](Pipeline& p) { p.prepare().mutable_domains(1)->clear_paths(); },
                {"domain 'books' has no paths"}},
        BadCase{"EmptyDomain", [](Pipeline& p) { p.facts.empty.insert("/text/books"); },
                {"domain 'books' is empty", "/text/books"}},
        BadCase{"UnknownPolicy", [](Pipeline& p) { p.prepare().set_on_bad_document("fial"); },
                {"did you mean 'fail'?"}},
        BadCase{"NegativeMinimum", [](Pipeline& p) { p.prepare().set_min_characters(-1); },
                {"min_characters=-1 is out of range; use 0 or more"}},
        BadCase{"HeldoutTooMuch", [](Pipeline& p) { p.prepare().set_heldout_fraction(0.6); },
                {"heldout_fraction=0.6", "0 to 0.5"}},
        BadCase{"NoModels", [](Pipeline& p) { p.evaluate().clear_models(); },
                {"models is empty"}},
        BadCase{"SameLabel",
                [](Pipeline& p) {
                  p.evaluate().mutable_models(0)->set_label("a");
                  p.evaluate().mutable_models(1)->set_label("a");
                },
                {"label='a' is used twice"}},
        BadCase{"ExportDtype",
                [](Pipeline& p) { p.jobs[4].mutable_export_()->set_dtype("int8"); },
                {"job 'export'", "dtype='int8'", "fp32, bf16, fp16"}}),
    [](const auto& info) { return info.param.name; });

}  // namespace
}  // namespace moe::coordinator
