#include "coordinator/job_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <map>
#include <set>

#include "common/status.h"

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
  EXPECT_EQ(train.watch().on_non_finite(), "skip");
  EXPECT_EQ(train.start(), "pretrained");
  EXPECT_EQ(train.collective_timeout_seconds(), 120);
  EXPECT_EQ((*complete)[3].spec.evaluate().models(0).label(), "smollm2.gguf");
  EXPECT_EQ((*complete)[0].spec.max_infrastructure_retries(), 10);
  EXPECT_EQ((*complete)[0].spec.prepare().output(), "corpus");
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
  EXPECT_TRUE(calibrate.has_mean_vector());
  EXPECT_FALSE(spec.construct().learn_scale());
  EXPECT_EQ((*complete)[1].needs, (std::vector<int>{0})) << "the dataset's job comes first";
  EXPECT_EQ(InputsOf(spec).count("calibrate.dataset"), 1u);
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
        BadCase{"Priority", [](Pipeline& p) { p.jobs[0].set_priority(1001); },
                {"priority=1001", "-1000 to 1000"}},
        BadCase{"SlotsOfPrepare", [](Pipeline& p) { p.jobs[0].mutable_resources()->set_slots(2); },
                {"resources.slots=2", "only train"}},
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
        BadCase{"UnknownStart", [](Pipeline& p) { p.train().set_start("scratch"); },
                {"start='scratch'", "pretrained, random"}},
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
