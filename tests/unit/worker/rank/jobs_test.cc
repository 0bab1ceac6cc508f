// Every job of moe-rank on a tiny model, through its run folder: what goes in is files, what comes
// out is files and reports.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/equal.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/socket.h>

#include <cmath>
#include <fstream>
#include <functional>

#include "common/file.h"
#include "common/line_buffer.h"
#include "common/run_channel.h"
#include "common/status.h"
#include "common/unix_socket.h"
#include "storage/artefacts/manifest.h"
#include "tests/unit/common/temporary_folder.h"
#include "tests/unit/worker/training/tiny_run.h"
#include "worker/model/arena.h"
#include "worker/model/hf_export.h"
#include "worker/model/model.h"
#include "worker/model/weights.h"
#include "worker/rank/job.h"

namespace moe::rank {
namespace {

using artefacts::DType;
using ::testing::AllOf;
using ::testing::HasSubstr;

artefacts::ModelConfig TinyDense() {
  artefacts::ModelConfig config = training::TinyMoe();
  config.moe = {};
  return config;
}

Json ConstructSpecJson() {
  return {{"method", "independent-random"},
          {"num_experts", 8},
          {"num_shared_experts", 0},
          {"top_k", 2},
          {"score_scale_factor", 4.0},
          {"gate_network", "mlp"},
          {"gate", "noisy-top-k"},
          {"gate_init", "random"},
          {"seed", "1227"},
          {"learn_scale", false}};
}

Json ImportanceJson() {
  return {{"samples_per_group", 2}, {"sequence_length", 16}, {"groups", "cluster"},
          {"projection", "up"},     {"kernel", "l1"},        {"accumulate", "sample"},
          {"score", "change"},      {"criterion", "max"}};
}

Json EvaluateSpecJson() {
  return {{"models", {{{"label", "dense"}}, {{"label", ""}}}},
          {"sequence_length", 32},
          {"max_samples_per_domain", 2},
          {"batch_samples", 2},
          {"compute_dtype", "fp32"}};
}

Json TrainSpecJson() {
  return {{"steps", 2},
          {"sequence_length", 32},
          {"global_batch_samples", 4},
          {"micro_batch_samples", 2},
          {"optimizer",
           {{"learning_rate", 1e-3},
            {"final_learning_rate_ratio", 0.1},
            {"warmup_steps", 1},
            {"beta1", 0.9},
            {"beta2", 0.95},
            {"epsilon", 1e-8},
            {"weight_decay", 0.1},
            {"clip_norm", 1.0},
            {"groups", Json::array()}}},
          {"mixture", {{"preset", "uniform"}}},
          {"compute_dtype", "fp32"},
          {"balance_loss_weight", 0.01},
          {"gate_noise", true},
          {"load_estimator", "correct"},
          {"checkpoint", {{"interval_steps", 100}, {"keep", 2}}},
          {"watch",
           {{"on_non_finite", "skip"},
            {"on_loss_spike", "report"},
            {"spike_deviations", 6.0},
            {"window_steps", 32},
            {"max_bad_steps", 5},
            {"dead_expert_share", 0.01}}},
          {"start", "pretrained"},
          {"collective_timeout_seconds", 120},
          {"seed", "1227"}};
}

// Reports of a finished rank, and what they say.
class Reports {
 public:
  explicit Reports(const std::string& run_dir) {
    LineBuffer lines(kMaxRunLineBytes);
    const std::string content = *ReadFile(run_dir + "/rank-0/reports.jsonl");
    lines.Append(content.data(), content.size());
    for (std::string line; lines.Next(&line);) reports_.push_back(Json::parse(line));
  }
  // Bodies of the reports of one kind.
  std::vector<Json> Of(const std::string& event) const {
    std::vector<Json> bodies;
    for (const Json& report : reports_) {
      if (report.contains(event)) bodies.push_back(report.at(event));
    }
    return bodies;
  }
  const Json& Last() const { return reports_.back(); }

 private:
  std::vector<Json> reports_;
};

class JobsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    const artefacts::ModelConfig config = TinyDense();
    ASSERT_TRUE(MakeDirectories(DensePath()).ok());
    ASSERT_TRUE(
        model::SaveHfFolder(config, training::RandomParameters(config), DType::kF32, DensePath())
            .ok());
    folder_.Write("dense/tokenizer.json", R"({"model": "tiny"})");
    training::WriteTinyDataset(DatasetPath());
  }

  std::string DensePath() const { return folder_.File("dense"); }
  std::string DatasetPath() const { return folder_.File("corpus"); }
  std::string OutputPath(const std::string& job) const { return folder_.File("out-" + job); }

  // Runs a job to its end, as moe-rank does. The worker says one line in advance: how the
  // coordinator decides on an artefact, or a stop.
  Reports Run(const std::string& job, const std::string& kind, const std::string& output_kind,
              const Json& inputs, const Json& spec, const Json& worker_line) {
    const std::string run_dir = folder_.File("run-" + job);
    const Json run = {
        {"format", "moe-run-spec"},
        {"version", 1},
        {"job_id", job},
        {"job_name", job},
        {"attempt", 1},
        {"kind", kind},
        {"world_size", 1},
        {"lease_ttl_ms", 600'000},
        {"output", {{"name", "tiny"}, {"kind", output_kind}, {"dir", OutputPath(job)}}},
        {"inputs", inputs},
        {"spec", spec}};
    folder_.Write("run-" + job + "/run.json", run.dump());
    auto channel = RunChannel::Open({.run_dir = run_dir});
    EXPECT_TRUE(channel.ok()) << ToString(channel.status());
    const FileDescriptor worker = ConnectUnix(run_dir + "/rank-0/socket").value();
    const std::string text = worker_line.dump() + "\n";
    EXPECT_EQ(::send(worker.get(), text.data(), text.size(), MSG_NOSIGNAL),
              static_cast<ssize_t>(text.size()));

    const Device device{.threads = 1, .bf16_feature = ""};
    const std::string host = "127.0.0.1";
    RunToEnd(**channel, [&]() -> absl::StatusOr<JobOutcome> {
      MOE_ASSIGN_OR_RETURN(const RunSpec parsed, ParseRunSpec((*channel)->run_spec()));
      JobContext context{.channel = **channel, .run = parsed, .device = device, .host = host};
      return RunJob(context);
    });
    return Reports(run_dir);
  }
  Reports Run(const std::string& job, const std::string& kind, const std::string& output_kind,
              const Json& inputs, const Json& spec) {
    return Run(job, kind, output_kind, inputs, spec, Committed(OutputPath(job)));
  }

  static Json Committed(const std::string& path) {
    return {{"type", "artefact"}, {"path", path}, {"committed", true}, {"error", ""}};
  }

  // An artefact as a later job's input.
  Json InputOf(const Reports& reports) const {
    const Json artefact = reports.Of("artefact").back();
    return {{"path", artefact["path"]},
            {"artefact", "tiny:1"},
            {"manifest_crc32c", artefact["manifest_crc32c"]}};
  }
  Reports Construct() {
    return Run("construct", "construct", "model", {{"model", {{"path", DensePath()}}}},
               ConstructSpecJson());
  }

  TemporaryFolder folder_;
};

TEST_F(JobsTest, Construct_DenseFolder_MakesAModelArtefactThatReadsBack) {
  const Reports reports = Construct();
  ASSERT_TRUE(reports.Last().contains("finished")) << reports.Last();
  EXPECT_THAT(reports.Last()["finished"]["summary"], HasSubstr("8 experts of width 16, top-2"));

  const Json artefact = reports.Of("artefact").at(0);
  EXPECT_EQ(artefact["kind"], "ARTEFACT_KIND_MODEL");
  EXPECT_EQ(artefact["metadata"]["vocab_size"], 128);
  const uint32_t crc = artefact["manifest_crc32c"];
  const auto manifest = artefacts::ReadManifest(OutputPath("construct"), &crc);
  ASSERT_TRUE(manifest.ok()) << ToString(manifest.status());
  EXPECT_TRUE(artefacts::VerifyFiles(OutputPath("construct"), *manifest).ok());
  EXPECT_EQ(*ReadFile(OutputPath("construct") + "/tokenizer.json"), R"({"model": "tiny"})");

  const auto loaded = model::LoadModel(OutputPath("construct"));
  ASSERT_TRUE(loaded.ok()) << ToString(loaded.status());
  EXPECT_EQ(loaded->config.moe.num_experts, 8);
  EXPECT_EQ(loaded->config.moe.top_k, 2);
}

Json CalibrateJson() {
  return {{"tokens", 512},      {"shared_experts", 1}, {"active_ffn_share", 0.7},
          {"compensate", true}, {"fit_experts", true}, {"mean_vector", false}};
}

TEST_F(JobsTest, ConstructCalibrated_ThenTrainAndExport_KeepsSharedExpertsAndDenseLayers) {
  Json spec = ConstructSpecJson();
  spec["gate_network"] = "linear";
  spec["calibrate"] = CalibrateJson();
  const Reports constructed = Run(
      "construct", "construct", "model",
      {{"model", {{"path", DensePath()}}}, {"calibrate.dataset", {{"path", DatasetPath()}}}}, spec);
  ASSERT_TRUE(constructed.Last().contains("finished")) << constructed.Last();
  EXPECT_THAT(constructed.Last()["finished"]["summary"],
              AllOf(HasSubstr("7 experts of width 16, top-1, a shared one of width 16"),
                    HasSubstr("dense in layers"), HasSubstr("on the calibration text")));
  const Json calibration = constructed.Of("artefact").at(0)["metadata"]["calibration"];
  EXPECT_EQ(calibration["layers"].size(), 2u);
  EXPECT_LT(calibration["loss"].get<double>(), 1.1 * calibration["dense_loss"].get<double>());

  const std::string checkpoint = OutputPath("train") + "/step-00000002";
  const Reports trained =
      Run("train", "train", "checkpoint",
          {{"model", InputOf(constructed)}, {"dataset", {{"path", DatasetPath()}}}},
          TrainSpecJson(), Committed(checkpoint));
  ASSERT_TRUE(trained.Last().contains("finished")) << trained.Last();
  const auto loaded = model::LoadModel(checkpoint);
  ASSERT_TRUE(loaded.ok()) << ToString(loaded.status());
  EXPECT_EQ(loaded->config.moe.shared_width, 16);
  EXPECT_EQ(loaded->config.num_moe_layers(), 1);

  const Reports exported = Run("export", "export", "model", {{"model", InputOf(trained)}},
                               {{"dtype", "fp32"}, {"format", "qwen2-moe"}});
  ASSERT_TRUE(exported.Last().contains("finished")) << exported.Last();
  EXPECT_EQ(exported.Of("artefact").at(0)["metadata"]["model_type"], "qwen2_moe");
}

TEST_F(JobsTest, ConstructSwitch_ThenTrainEvaluateAndExport_KeepsGateAndCapacity) {
  Json spec = ConstructSpecJson();
  spec.update({{"gate", "switch"}, {"top_k", 1}, {"capacity_factor", 1.0}});
  const Reports constructed =
      Run("construct", "construct", "model", {{"model", {{"path", DensePath()}}}}, spec);
  ASSERT_TRUE(constructed.Last().contains("finished")) << constructed.Last();
  EXPECT_THAT(constructed.Last()["finished"]["summary"], HasSubstr("top-1"));

  const std::string checkpoint = OutputPath("train") + "/step-00000002";
  const Reports trained =
      Run("train", "train", "checkpoint",
          {{"model", InputOf(constructed)}, {"dataset", {{"path", DatasetPath()}}}},
          TrainSpecJson(), Committed(checkpoint));
  ASSERT_TRUE(trained.Last().contains("finished")) << trained.Last();
  // Room for an equal share alone: an expert that is sent more has to drop some.
  const Json routing = trained.Of("step").at(0)["routing"];
  int64_t dropped = 0;
  for (const Json& layer : routing) dropped += layer["dropped"].get<int64_t>();
  EXPECT_GT(dropped, 0) << routing;

  const Json inputs = {{"models.0", {{"path", DensePath()}}},
                       {"models.1", InputOf(trained)},
                       {"dataset", {{"path", DatasetPath()}}}};
  Json evaluate = EvaluateSpecJson();
  const Reports evaluated = Run("evaluate", "evaluate", "report", inputs, evaluate);
  ASSERT_TRUE(evaluated.Last().contains("finished")) << evaluated.Last();
  evaluate["top_k"] = 2;
  const Reports refused = Run("evaluate-two", "evaluate", "report", inputs, evaluate);
  ASSERT_TRUE(refused.Last().contains("failed")) << refused.Last();
  EXPECT_THAT(refused.Last()["failed"]["error"],
              AllOf(HasSubstr("top_k=2"), HasSubstr("switch gate"), HasSubstr("selects 1")));

  const Reports exported = Run("export", "export", "model", {{"model", InputOf(trained)}},
                               {{"dtype", "fp32"}, {"format", "llama-moe"}});
  ASSERT_TRUE(exported.Last().contains("finished")) << exported.Last();
  const auto loaded = model::LoadModel(OutputPath("export"));
  ASSERT_TRUE(loaded.ok()) << ToString(loaded.status());
  EXPECT_TRUE(loaded->config.moe.is_switch());
  EXPECT_EQ(loaded->config.moe.capacity_factor, 1.0);
}

// Calibration fits what any method cuts.
TEST_F(JobsTest, ConstructCalibrated_EveryMethod_StartsNearTheDenseModel) {
  Json clustering = ConstructSpecJson(), inner = ConstructSpecJson(), inter = ConstructSpecJson();
  clustering["method"] = "independent-clustering";
  clustering["clustering"] = {{"metric", "l2"},
                              {"projection", "up"},
                              {"restarts", 1},
                              {"max_iterations", 10},
                              {"tolerance", 1e-4}};
  inner["method"] = "sharing-inner";
  inner["importance"] = ImportanceJson();
  inter["method"] = "sharing-inter";
  inter["importance"] = ImportanceJson();
  inter["overlap"] = true;
  inter["num_experts"] = 6;
  inter["num_shared_experts"] = 2;
  inter["shared_scale_factor"] = 0.5;
  for (Json& spec : {std::ref(clustering), std::ref(inner), std::ref(inter)}) {
    const std::string method = spec["method"];
    const bool has_shared = method == "sharing-inter";
    spec["calibrate"] = CalibrateJson();
    spec["calibrate"]["shared_experts"] = has_shared ? 0 : 1;
    spec["calibrate"].erase("active_ffn_share");
    spec["layers"] = {1};
    const Reports reports = Run(method, "construct", "model",
                                {{"model", {{"path", DensePath()}}},
                                 {"calibrate.dataset", {{"path", DatasetPath()}}},
                                 {"importance.dataset", {{"path", DatasetPath()}}}},
                                spec);
    ASSERT_TRUE(reports.Last().contains("finished")) << method << ": " << reports.Last();
    const auto made = model::LoadModel(OutputPath(method));
    ASSERT_TRUE(made.ok()) << ToString(made.status());
    EXPECT_EQ(made->config.moe.dense_layers, std::vector<int64_t>{0}) << method;
    EXPECT_EQ(made->config.moe.shared_width, has_shared ? 32 : 16) << method;
    const Json metadata = reports.Of("artefact").at(0)["metadata"];
    EXPECT_LT(metadata["calibration"]["loss"].get<double>(),
              1.1 * metadata["calibration"]["dense_loss"].get<double>())
        << method;
    EXPECT_EQ(metadata["table"].size(), 2u) << "a title and layer 1";
  }
}

TEST_F(JobsTest, Construct_TrainedGates_DifferFromTheCentresTheyStartFrom) {
  Json centres = ConstructSpecJson(), trained = ConstructSpecJson();
  centres["gate_init"] = "centres";
  trained["gate_init"] = "trained";
  trained["gate_training"] = {
      {"tokens", 512}, {"epochs", 20}, {"learning_rate", 0.01}, {"teacher", "l1"}};
  const Json inputs = {{"model", {{"path", DensePath()}}},
                       {"gate_training.dataset", {{"path", DatasetPath()}}}};
  const Reports before = Run("centres", "construct", "model", inputs, centres);
  const Reports after = Run("trained", "construct", "model", inputs, trained);
  ASSERT_TRUE(after.Last().contains("finished")) << after.Last();
  const auto from = model::LoadModel(OutputPath("centres"));
  const auto to = model::LoadModel(OutputPath("trained"));
  ASSERT_TRUE(from.ok() && to.ok());
  const model::ParameterLayout layout(to->config);
  const auto view = [&](const model::LoadedModel& loaded, const std::string& name) {
    return model::View(loaded.parameters, layout.Find(name));
  };
  EXPECT_TRUE(at::equal(view(*from, "layers.0.experts.down"), view(*to, "layers.0.experts.down")));
  EXPECT_FALSE(at::equal(view(*from, "layers.0.router.0"), view(*to, "layers.0.router.0")));
}

TEST_F(JobsTest, ConstructCalibrated_Cancelled_Stops) {
  Json spec = ConstructSpecJson();
  spec["calibrate"] = CalibrateJson();
  const Reports reports =
      Run("construct", "construct", "model",
          {{"model", {{"path", DensePath()}}}, {"calibrate.dataset", {{"path", DatasetPath()}}}},
          spec, {{"type", "stop"}, {"reason", "cancel"}});
  ASSERT_TRUE(reports.Last().contains("stopped")) << reports.Last();
}

TEST_F(JobsTest, ConstructCalibrated_DatasetOfAnotherVocabulary_NamesBoth) {
  artefacts::ModelConfig config = TinyDense();
  config.vocab_size = 130;
  ASSERT_TRUE(
      model::SaveHfFolder(config, training::RandomParameters(config), DType::kF32, DensePath())
          .ok());
  Json spec = ConstructSpecJson();
  spec["calibrate"] = CalibrateJson();
  const Reports reports = Run(
      "construct", "construct", "model",
      {{"model", {{"path", DensePath()}}}, {"calibrate.dataset", {{"path", DatasetPath()}}}}, spec);
  ASSERT_TRUE(reports.Last().contains("failed")) << reports.Last();
  EXPECT_EQ(reports.Last()["failed"]["cause"], "CAUSE_BAD_INPUT");
  EXPECT_THAT(reports.Last()["failed"]["error"], AllOf(HasSubstr("128"), HasSubstr("130")));
}

TEST_F(JobsTest, Export_AsDense_GivesTheModelThatWasCut) {
  const Reports exported = Run("export", "export", "model", {{"model", InputOf(Construct())}},
                               {{"dtype", "fp32"}, {"format", "llama"}});
  ASSERT_TRUE(exported.Last().contains("finished")) << exported.Last();
  const auto cut = model::LoadModel(DensePath()), whole = model::LoadModel(OutputPath("export"));
  ASSERT_TRUE(whole.ok()) << ToString(whole.status());
  const at::Tensor tokens_BS = at::arange(32, at::kLong).view({2, 16});
  const auto logits = [&](const model::LoadedModel& loaded) {
    model::Model model(loaded.config, {.compute = model::ComputeType::kFp32});
    model.SetParameters(loaded.parameters);
    return model.Logits(tokens_BS);
  };
  EXPECT_LT((logits(*cut) - logits(*whole)).abs().max().item<float>(), 1e-4f);
}

TEST_F(JobsTest, Export_MlpGateAsMixtral_FailsWithTheFix) {
  const Reports reports = Run("export", "export", "model", {{"model", InputOf(Construct())}},
                              {{"dtype", "fp32"}, {"format", "mixtral"}});
  ASSERT_TRUE(reports.Last().contains("failed")) << reports.Last();
  EXPECT_EQ(reports.Last()["failed"]["cause"], "CAUSE_BAD_INPUT");
  EXPECT_THAT(reports.Last()["failed"]["error"], HasSubstr("gate_network linear"));
}

TEST_F(JobsTest, Evaluate_OtherTopK_ChangesMixturesOnly) {
  const Json inputs = {{"models.0", {{"path", DensePath()}}},
                       {"models.1", InputOf(Construct())},
                       {"dataset", {{"path", DatasetPath()}}}};
  const auto losses = [&](const std::string& job, const Json& spec) {
    const Reports reports = Run(job, "evaluate", "report", inputs, spec);
    EXPECT_TRUE(reports.Last().contains("finished")) << reports.Last();
    return *ReadJsonFile(OutputPath(job) + "/report.json");
  };
  Json spec = EvaluateSpecJson();
  const Json as_built = losses("evaluate", spec);
  spec["top_k"] = 8;
  const Json all = losses("evaluate-all", spec);
  EXPECT_EQ(all["models"][0], as_built["models"][0]);
  EXPECT_NE(all["models"][1], as_built["models"][1]);
  spec["top_k"] = 9;
  const Reports refused = Run("evaluate-nine", "evaluate", "report", inputs, spec);
  ASSERT_TRUE(refused.Last().contains("failed")) << refused.Last();
  EXPECT_THAT(refused.Last()["failed"]["error"], HasSubstr("top_k=9 is above the 8 experts"));
}

struct MethodCase {
  const char* method;
  Json change;          // of ConstructSpecJson
  const char* summary;  // a part of it
};

class ConstructMethodsTest : public JobsTest, public ::testing::WithParamInterface<MethodCase> {};

TEST_P(ConstructMethodsTest, MakesAModelThatReadsBack_TheSameAgain) {
  Json spec = ConstructSpecJson();
  spec["method"] = GetParam().method;
  spec.update(GetParam().change);
  const Json inputs = {{"model", {{"path", DensePath()}}},
                       {"importance.dataset", {{"path", DatasetPath()}}}};
  uint32_t crc = 0;
  for (const char* job : {"first", "second"}) {
    const Reports reports = Run(job, "construct", "model", inputs, spec);
    ASSERT_TRUE(reports.Last().contains("finished")) << reports.Last();
    EXPECT_THAT(reports.Last()["finished"]["summary"], HasSubstr(GetParam().summary));
    const Json metadata = reports.Of("artefact").at(0)["metadata"];
    EXPECT_EQ(metadata["method"], GetParam().method);
    EXPECT_GE(metadata["table"].size(), 2u);
    const auto loaded = model::LoadModel(OutputPath(job));
    ASSERT_TRUE(loaded.ok()) << ToString(loaded.status());
    const auto weights = artefacts::DescribeFile(OutputPath(job), "model.safetensors");
    ASSERT_TRUE(weights.ok());
    EXPECT_TRUE(crc == 0 || weights->crc32c == crc);
    crc = weights->crc32c;
  }
}

INSTANTIATE_TEST_SUITE_P(
    Methods, ConstructMethodsTest,
    ::testing::Values(
        MethodCase{"independent-clustering",
                   {{"clustering",
                     {{"metric", "l2"},
                      {"projection", "up"},
                      {"restarts", 2},
                      {"max_iterations", 20},
                      {"tolerance", 1e-4}}},
                    {"gate_init", "centres"}},
                   "8 experts of width 16"},
        MethodCase{
            "independent-importance", {{"importance", ImportanceJson()}}, "8 experts of width 16"},
        MethodCase{"coactivation-graph",
                   {{"importance", ImportanceJson()},
                    {"coactivation", {{"kernel", "l1"}, {"threshold", 1.0}}}},
                   "8 experts of width 16"},
        MethodCase{"sharing-inner",
                   {{"importance", ImportanceJson()}, {"expert_width", 24}},
                   "8 experts of width 24"},
        MethodCase{"sharing-inter",
                   {{"importance", ImportanceJson()},
                    {"num_experts", 7},
                    {"num_shared_experts", 1},
                    {"overlap", true},
                    {"shared_scale_factor", 1.0},
                    {"layers", {1}}},
                   "7 experts of width 16, top-2, a shared one of width 16, dense in layers 0"},
        MethodCase{"sharing-inter",
                   {{"importance", ImportanceJson()},
                    {"num_experts", 6},
                    {"num_shared_experts", 2},
                    {"overlap", false},
                    {"shared_scale_factor", 0.5}},
                   "6 experts of width 16, top-2, a shared one of width 32"},
        MethodCase{
            "prune-random", {{"num_experts", 1}, {"top_k", 1}, {"retain", 0.25}}, "FFN width 32"},
        MethodCase{
            "prune-importance",
            {{"num_experts", 1}, {"top_k", 1}, {"retain", 0.5}, {"importance", ImportanceJson()}},
            "FFN width 64"}));

TEST_F(JobsTest, Construct_DomainsThatAreNotAsManyAsExperts_FailsAsBadInput) {
  Json spec = ConstructSpecJson();
  spec["method"] = "sharing-inner";
  spec["importance"] = ImportanceJson();
  spec["importance"]["groups"] = "domain";
  const Reports reports =
      Run("construct", "construct", "model",
          {{"model", {{"path", DensePath()}}}, {"importance.dataset", {{"path", DatasetPath()}}}},
          spec);
  ASSERT_TRUE(reports.Last().contains("failed")) << reports.Last();
  EXPECT_EQ(reports.Last()["failed"]["cause"], "CAUSE_BAD_INPUT");
  EXPECT_THAT(reports.Last()["failed"]["error"],
              AllOf(HasSubstr("2 domains"), HasSubstr("num_experts=8")));
}

TEST_F(JobsTest, Construct_CoordinatorRefusesTheArtefact_FailsWithItsReason) {
  const Reports reports = Run("construct", "construct", "model",
                              {{"model", {{"path", DensePath()}}}}, ConstructSpecJson(),
                              {{"type", "artefact"},
                               {"path", OutputPath("construct")},
                               {"committed", false},
                               {"error", "stale attempt"}});
  ASSERT_TRUE(reports.Last().contains("failed")) << reports.Last();
  EXPECT_THAT(reports.Last()["failed"]["error"], HasSubstr("stale attempt"));
}

TEST_F(JobsTest, Construct_Cancelled_Stops) {
  const Reports reports =
      Run("construct", "construct", "model", {{"model", {{"path", DensePath()}}}},
          ConstructSpecJson(), {{"type", "stop"}, {"reason", "cancel"}});
  ASSERT_TRUE(reports.Last().contains("stopped")) << reports.Last();
  EXPECT_EQ(reports.Last()["stopped"]["cause"], "CAUSE_CANCELLED");
}

TEST_F(JobsTest, Construct_CountThatDoesNotDivide_FailsAsBadInput) {
  Json spec = ConstructSpecJson();
  spec["num_experts"] = 7;
  const Reports reports =
      Run("construct", "construct", "model", {{"model", {{"path", DensePath()}}}}, spec);
  ASSERT_TRUE(reports.Last().contains("failed")) << reports.Last();
  EXPECT_EQ(reports.Last()["failed"]["cause"], "CAUSE_BAD_INPUT");
  EXPECT_THAT(reports.Last()["failed"]["error"], HasSubstr("num_experts=7"));
}

TEST_F(JobsTest, Export_OfADamagedArtefact_NamesTheFile) {
  const Json input = InputOf(Construct());
  const std::string weights = OutputPath("construct") + "/model.safetensors";
  std::fstream file(weights, std::ios::in | std::ios::out | std::ios::binary);
  file.seekp(-3, std::ios::end);
  file.put('\x55');
  file.close();

  const Reports reports = Run("export", "export", "model", {{"model", input}},
                              {{"dtype", "bf16"}, {"format", "llama-moe"}});
  ASSERT_TRUE(reports.Last().contains("failed")) << reports.Last();
  EXPECT_EQ(reports.Last()["failed"]["cause"], "CAUSE_BAD_INPUT");
  EXPECT_THAT(reports.Last()["failed"]["error"], HasSubstr("model.safetensors"));
  EXPECT_TRUE(reports.Of("artefact").empty());
}

TEST_F(JobsTest, Evaluate_TwoModels_WritesOneTable) {
  const Reports reports = Run("evaluate", "evaluate", "report",
                              {{"models.0", {{"path", DensePath()}}},
                               {"models.1", InputOf(Construct())},
                               {"dataset", {{"path", DatasetPath()}}}},
                              EvaluateSpecJson());
  ASSERT_TRUE(reports.Last().contains("finished")) << reports.Last();
  const Json table = reports.Of("artefact").at(0)["metadata"]["table"];
  EXPECT_EQ(table[0], (Json{"domain", "dense loss", "dense ppl", "tiny:1 loss", "tiny:1 ppl"}));
  ASSERT_EQ(table.size(), 4u);  // titles, c4, github, mean
  EXPECT_EQ(table[3][0], "mean");
  // Random weights know nothing: the loss is near that of guessing.
  EXPECT_NEAR(std::stod(table[3][1].get<std::string>()), std::log(128.0), 1.0);
  const Json report = *ReadJsonFile(OutputPath("evaluate") + "/report.json");
  EXPECT_EQ(report["models"][1]["domains"][0]["tokens"], 2 * 31);
  EXPECT_TRUE(FileExists(OutputPath("evaluate") + "/report.md"));
}

TEST_F(JobsTest, Evaluate_DatasetOfAnotherVocabulary_NamesBoth) {
  artefacts::ModelConfig config = TinyDense();
  config.vocab_size = 130;
  ASSERT_TRUE(
      model::SaveHfFolder(config, training::RandomParameters(config), DType::kF32, DensePath())
          .ok());
  const Reports reports = Run("evaluate", "evaluate", "report",
                              {{"models.0", {{"path", DensePath()}}},
                               {"models.1", {{"path", DensePath()}}},
                               {"dataset", {{"path", DatasetPath()}}}},
                              EvaluateSpecJson());
  ASSERT_TRUE(reports.Last().contains("failed")) << reports.Last();
  EXPECT_EQ(reports.Last()["failed"]["cause"], "CAUSE_BAD_INPUT");
  EXPECT_THAT(
      reports.Last()["failed"]["error"],
      AllOf(HasSubstr("128"), HasSubstr("130"), HasSubstr(DatasetPath()), HasSubstr(DensePath())));
}

TEST_F(JobsTest, Evaluate_SamplesLongerThanTheHeldOutText_SaysWhatToDo) {
  Json spec = EvaluateSpecJson();
  spec["sequence_length"] = 1000;
  const Reports reports = Run("evaluate", "evaluate", "report",
                              {{"models.0", {{"path", DensePath()}}},
                               {"models.1", {{"path", DensePath()}}},
                               {"dataset", {{"path", DatasetPath()}}}},
                              spec);
  ASSERT_TRUE(reports.Last().contains("failed")) << reports.Last();
  EXPECT_THAT(reports.Last()["failed"]["error"],
              AllOf(HasSubstr("1000 held-out tokens"), HasSubstr("heldout_fraction")));
}

TEST_F(JobsTest, Train_ThenExport_CarriesTheTrainedWeights) {
  const Json mixture = InputOf(Construct());
  const std::string checkpoint = OutputPath("train") + "/step-00000002";
  const Reports trained = Run("train", "train", "checkpoint",
                              {{"model", mixture}, {"dataset", {{"path", DatasetPath()}}}},
                              TrainSpecJson(), Committed(checkpoint));
  ASSERT_TRUE(trained.Last().contains("finished")) << trained.Last();
  EXPECT_EQ(trained.Of("step").size(), 2u);
  EXPECT_EQ(trained.Of("artefact").at(0)["path"], checkpoint);

  const Reports exported = Run("export", "export", "model", {{"model", InputOf(trained)}},
                               {{"dtype", "bf16"}, {"format", "llama-moe"}});
  ASSERT_TRUE(exported.Last().contains("finished")) << exported.Last();
  const at::Tensor expected = model::LoadModel(checkpoint)->parameters;
  const auto loaded = model::LoadModel(OutputPath("export"));
  ASSERT_TRUE(loaded.ok()) << ToString(loaded.status());
  EXPECT_EQ(loaded->stored_dtype, DType::kBf16);
  EXPECT_TRUE(at::equal(loaded->parameters, expected.to(at::kBFloat16).to(at::kFloat)));
  EXPECT_FALSE(at::equal(expected, model::LoadModel(OutputPath("construct"))->parameters));
  EXPECT_TRUE(FileExists(OutputPath("export") + "/tokenizer.json"));
}

TEST_F(JobsTest, Train_GateNoiseOff_DropsTheNoiseWeights) {
  Json spec = TrainSpecJson();
  spec["gate_noise"] = false;
  const std::string checkpoint = OutputPath("train") + "/step-00000002";
  const Reports trained =
      Run("train", "train", "checkpoint",
          {{"model", InputOf(Construct())}, {"dataset", {{"path", DatasetPath()}}}}, spec,
          Committed(checkpoint));
  ASSERT_TRUE(trained.Last().contains("finished")) << trained.Last();
  const auto loaded = model::LoadModel(checkpoint);
  ASSERT_TRUE(loaded.ok()) << ToString(loaded.status());
  EXPECT_FALSE(loaded->config.moe.add_noise);
}

TEST_F(JobsTest, Train_DenseModelFromRandomWeights_MakesADenseCheckpoint) {
  const std::string checkpoint = OutputPath("train") + "/step-00000002";
  Json spec = TrainSpecJson();
  spec["start"] = "random";
  const Reports reports =
      Run("train", "train", "checkpoint",
          {{"model", {{"path", DensePath()}}}, {"dataset", {{"path", DatasetPath()}}}}, spec,
          Committed(checkpoint));
  ASSERT_TRUE(reports.Last().contains("finished")) << reports.Last();
  // The tiny model's own weights are five times as large as those that a random start draws.
  EXPECT_NEAR(reports.Of("step")[0]["loss"].get<double>(), std::log(128.0), 0.05);
  EXPECT_GT(reports.Of("step")[0]["model_flops_utilisation"].get<double>(), 0.0);
  const auto loaded = model::LoadModel(checkpoint);
  ASSERT_TRUE(loaded.ok()) << ToString(loaded.status());
  EXPECT_FALSE(loaded->config.is_moe());
}

TEST_F(JobsTest, Train_RepeatedToken_ReachesALossNearZero) {
  training::WriteRepeatedTokenDataset(folder_.File("repeated"));
  const std::string checkpoint = OutputPath("train") + "/step-00000020";
  Json spec = TrainSpecJson();
  spec["steps"] = 20;
  spec["optimizer"]["learning_rate"] = 1e-2;
  const Reports reports =
      Run("train", "train", "checkpoint",
          {{"model", {{"path", DensePath()}}}, {"dataset", {{"path", folder_.File("repeated")}}}},
          spec, Committed(checkpoint));
  ASSERT_TRUE(reports.Last().contains("finished")) << reports.Last();
  EXPECT_LT(reports.Of("step").back()["loss"].get<double>(), 0.05);
}

TEST_F(JobsTest, Train_SequenceLongerThanTheContext_NamesBoth) {
  Json spec = TrainSpecJson();
  spec["sequence_length"] = 65;
  const Reports reports =
      Run("train", "train", "checkpoint",
          {{"model", {{"path", DensePath()}}}, {"dataset", {{"path", DatasetPath()}}}}, spec);
  ASSERT_TRUE(reports.Last().contains("failed")) << reports.Last();
  EXPECT_EQ(reports.Last()["failed"]["cause"], "CAUSE_BAD_INPUT");
  EXPECT_THAT(reports.Last()["failed"]["error"],
              HasSubstr("sequence_length=65; from 2 to the model's context of 64"));
}

TEST_F(JobsTest, Train_DatasetTooSmallForOneSample_SaysSo) {
  training::WriteRepeatedTokenDataset(folder_.File("short"), /*documents=*/1);
  Json spec = TrainSpecJson();
  spec["sequence_length"] = 64;
  const Reports reports = Run(
      "train", "train", "checkpoint",
      {{"model", {{"path", DensePath()}}}, {"dataset", {{"path", folder_.File("short")}}}}, spec);
  ASSERT_TRUE(reports.Last().contains("failed")) << reports.Last();
  EXPECT_EQ(reports.Last()["failed"]["cause"], "CAUSE_BAD_INPUT");
  EXPECT_THAT(reports.Last()["failed"]["error"], HasSubstr("c4 has weight 1 but not one whole"));
}

TEST_F(JobsTest, Train_MixtureNamesAnUnknownDomain_ListsTheKnown) {
  Json spec = TrainSpecJson();
  spec["mixture"] = {{"weights", {{"c4", 1.0}, {"gitlab", 1.0}}}};
  const Reports reports =
      Run("train", "train", "checkpoint",
          {{"model", InputOf(Construct())}, {"dataset", {{"path", DatasetPath()}}}}, spec);
  ASSERT_TRUE(reports.Last().contains("failed")) << reports.Last();
  EXPECT_THAT(reports.Last()["failed"]["error"],
              AllOf(HasSubstr("\"gitlab\""), HasSubstr("c4, github")));
}

}  // namespace
}  // namespace moe::rank
