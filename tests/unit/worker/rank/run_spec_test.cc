#include "worker/rank/run_spec.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "common/status.h"

namespace moe::rank {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

// As the coordinator writes it: original field names, 64-bit integers as strings.
Json TrainRun() {
  return Json::parse(R"json({
    "format": "moe-run-spec", "version": 1,
    "job_id": "j17", "job_name": "train", "attempt": 2, "kind": "train",
    "world_size": 2, "lease_ttl_ms": 30000,
    "output": {"name": "trained", "kind": "checkpoint", "dir": "/srv/moe/checkpoint/j17.2"},
    "inputs": {
      "model": {"path": "/srv/moe/model/j4.1", "artefact": "moe:1", "manifest_crc32c": 4294967295},
      "dataset": {"path": "/data/corpus"}
    },
    "resume": {"path": "/srv/moe/checkpoint/j17.1/step-00000040", "manifest_crc32c": 79, "step": 40},
    "spec": {
      "model": {"artefact": "moe"}, "dataset": {"path": "/data/corpus"},
      "steps": 60, "sequence_length": 512, "global_batch_samples": 8, "micro_batch_samples": 4,
      "optimizer": {"learning_rate": 2e-4, "final_learning_rate_ratio": 0.1, "warmup_steps": 10,
                    "beta1": 0.9, "beta2": 0.95, "epsilon": 1e-8, "weight_decay": 0.1,
                    "clip_norm": 1,
                    "groups": [{"parameters": "gates", "learning_rate_ratio": 0.5}]},
      "mixture": {"preset": "llama1", "weights": {}},
      "compute_dtype": "bf16", "balance_loss_weight": 0.01, "gate_noise": true,
      "load_estimator": "correct", "checkpoint": {"interval_steps": 20, "keep": 2},
      "seed": "1227", "output": "trained", "start": "random", "collective_timeout_seconds": 60,
      "watch": {"on_non_finite": "skip", "on_loss_spike": "rollback", "spike_deviations": 5,
                "window_steps": 16, "max_bad_steps": 3, "dead_expert_share": 0.02}
    }
  })json");
}

std::string TrainError(const Json& run) {
  const auto spec = ParseTrainSpec(run.at("spec"), "train");
  return spec.ok() ? "ok" : ToString(spec.status());
}

TEST(RunSpecTest, ParseRunSpec_TrainRun_ReadsEveryField) {
  const auto run = ParseRunSpec(TrainRun());
  ASSERT_TRUE(run.ok()) << ToString(run.status());
  EXPECT_EQ(run->job_id, "j17");
  EXPECT_EQ(run->attempt, 2);
  EXPECT_EQ(run->kind, "train");
  EXPECT_EQ(run->world_size, 2);
  EXPECT_EQ(run->output.dir, "/srv/moe/checkpoint/j17.2");
  EXPECT_EQ(run->inputs.at("model").manifest_crc32c, 4294967295u);
  EXPECT_FALSE(run->inputs.at("dataset").manifest_crc32c.has_value());
  EXPECT_THAT(run->InputNames(), ElementsAre("/data/corpus", "moe:1"));
  ASSERT_TRUE(run->resume.has_value());
  EXPECT_EQ(run->resume->step, 40);
}

TEST(RunSpecTest, ParseRunSpec_WithoutResume_StartsAfresh) {
  Json json = TrainRun();
  json.erase("resume");
  EXPECT_FALSE(ParseRunSpec(json).value().resume.has_value());
}

TEST(RunSpecTest, ParseRunSpec_MissingField_NamesIt) {
  Json json = TrainRun();
  json["output"].erase("dir");
  EXPECT_THAT(ToString(ParseRunSpec(json).status()),
              AllOf(HasSubstr("INVALID_ARGUMENT"), HasSubstr("output: dir: missing")));
}

TEST(RunSpecTest, ParseRunSpec_OfANewerVersion_IsRefused) {
  Json json = TrainRun();
  json["version"] = 2;
  EXPECT_THAT(ToString(ParseRunSpec(json).status()), HasSubstr("version 2 is not known"));
}

TEST(RunSpecTest, ParseRunSpec_ManifestCrcOfMoreThan32Bits_IsRefused) {
  Json json = TrainRun();
  json["inputs"]["model"]["manifest_crc32c"] = 4294967296;
  EXPECT_THAT(ToString(ParseRunSpec(json).status()), HasSubstr("4294967296"));
}

TEST(RunSpecTest, FindInput_ThatIsNotThere_SaysWhatNeedsIt) {
  const RunSpec run = ParseRunSpec(TrainRun()).value();
  EXPECT_THAT(ToString(run.FindInput("models.0").status()),
              AllOf(HasSubstr("inputs.models.0"), HasSubstr("train")));
}

TEST(RunSpecTest, ParseTrainSpec_ReadsEveryField) {
  const auto spec = ParseTrainSpec(TrainRun().at("spec"), "train");
  ASSERT_TRUE(spec.ok()) << ToString(spec.status());
  EXPECT_EQ(spec->steps, 60);
  EXPECT_EQ(spec->sequence_length, 512);
  EXPECT_EQ(spec->global_batch_samples, 8);
  EXPECT_EQ(spec->micro_batch_samples, 4);
  EXPECT_DOUBLE_EQ(spec->learning_rate, 2e-4);
  EXPECT_DOUBLE_EQ(spec->final_learning_rate_ratio, 0.1);
  EXPECT_EQ(spec->warmup_steps, 10);
  EXPECT_DOUBLE_EQ(spec->beta2, 0.95);
  EXPECT_DOUBLE_EQ(spec->epsilon, 1e-8);
  EXPECT_DOUBLE_EQ(spec->clip_norm, 1.0);
  EXPECT_EQ(spec->mixture_preset, "llama1");
  EXPECT_EQ(spec->checkpoint_interval_steps, 20);
  EXPECT_EQ(spec->seed, 1227u);
  EXPECT_TRUE(spec->random_start);
  EXPECT_EQ(spec->collective_timeout_ms, 60'000);
  EXPECT_THAT(spec->learning_rate_ratios,
              ElementsAre(std::pair<std::string, double>("gates", 0.5)));
  EXPECT_EQ(spec->watch.on_non_finite, training::WatchAction::kSkip);
  EXPECT_EQ(spec->watch.on_loss_spike, training::WatchAction::kRollback);
  EXPECT_EQ(spec->watch.window_steps, 16);
  EXPECT_EQ(spec->watch.max_bad_steps, 3);
}

TEST(RunSpecTest, ResetAttentionMask_KeepsDocumentsApart) {
  Json run = TrainRun();
  EXPECT_EQ(ParseTrainSpec(run.at("spec"), "train").value().attention,
            evaluation::AttentionScope::kSample)
      << "a spec of before there was a choice";
  run["spec"]["reset_attention_mask"] = true;
  EXPECT_EQ(ParseTrainSpec(run.at("spec"), "train").value().attention,
            evaluation::AttentionScope::kDocument);
  run["spec"]["reset_attention_mask"] = "yes";
  EXPECT_THAT(TrainError(run), HasSubstr("spec: reset_attention_mask"));
}

TEST(RunSpecTest, Parallel_SaysAmongHowManyRanksExpertsAre) {
  Json run = TrainRun();
  EXPECT_EQ(ParseTrainSpec(run.at("spec"), "train").value().expert_parallel, 1);
  run["spec"]["parallel"] = {{"expert", 4}};
  EXPECT_EQ(ParseTrainSpec(run.at("spec"), "train").value().expert_parallel, 4);
  run["spec"]["parallel"] = {{"expert", 0}};
  EXPECT_THAT(TrainError(run), HasSubstr("spec.parallel: expert: 0 must be at least 1"));
}

TEST(RunSpecTest, ParseTrainSpec_StartContinue_StartsFromNothingElse) {
  Json run = TrainRun();
  run["spec"]["start"] = "continue";
  const auto spec = ParseTrainSpec(run.at("spec"), "train");
  ASSERT_TRUE(spec.ok()) << ToString(spec.status());
  EXPECT_TRUE(spec->continues);
  EXPECT_FALSE(spec->random_start);
}

TEST(RunSpecTest, ParseTrainSpec_MixtureTable_IsRead) {
  Json run = TrainRun();
  run["spec"]["mixture"] = {{"preset", ""}, {"weights", {{"c4", 0.75}, {"github", 0.25}}}};
  const auto spec = ParseTrainSpec(run.at("spec"), "train");
  ASSERT_TRUE(spec.ok()) << ToString(spec.status());
  EXPECT_DOUBLE_EQ(spec->mixture_weights.at("c4"), 0.75);
}

TEST(RunSpecTest, ParseTrainSpec_ValueOutOfRange_NamesFieldValueAndLimit) {
  Json run = TrainRun();
  run["spec"]["steps"] = 0;
  EXPECT_THAT(TrainError(run), HasSubstr("spec: steps: 0 must be at least 1"));
  run = TrainRun();
  run["spec"]["optimizer"]["beta1"] = 1.5;
  EXPECT_THAT(TrainError(run), HasSubstr("spec.optimizer: beta1: 1.5 must be from 0 to 1"));
  run = TrainRun();
  run["spec"]["compute_dtype"] = "fp8";
  EXPECT_THAT(TrainError(run), HasSubstr("compute_dtype: \"fp8\" must be one of bf16, fp32"));
  run = TrainRun();
  run["spec"]["watch"]["on_non_finite"] = "report";
  EXPECT_THAT(TrainError(run), HasSubstr("on_non_finite: \"report\" must be one of skip"));
  run = TrainRun();
  run["spec"]["optimizer"]["groups"][0]["parameters"] = "heads";
  EXPECT_THAT(TrainError(run), HasSubstr("groups: parameters: \"heads\" must be one of"));
  run = TrainRun();
  run["spec"].erase("checkpoint");
  EXPECT_THAT(TrainError(run), HasSubstr("checkpoint: missing"));
  run = TrainRun();
  run["spec"]["mixture"]["weights"] = {{"c4", 1.0}};
  EXPECT_THAT(TrainError(run), HasSubstr("exactly one of preset and weights"));
}

TEST(RunSpecTest, ParseEvaluateSpec_ReadsOneLabelPerModel) {
  const Json json = Json::parse(R"json({
    "models": [{"label": "dense", "model": {"path": "/a"}}, {"model": {"artefact": "b"}}],
    "dataset": {"artefact": "corpus"}, "sequence_length": 512, "max_samples_per_domain": 16,
    "batch_samples": 4, "compute_dtype": "fp32", "output": "ppl",
    "reset_attention_mask": true})json");
  const auto spec = ParseEvaluateSpec(json);
  ASSERT_TRUE(spec.ok()) << ToString(spec.status());
  EXPECT_EQ(spec->attention, evaluation::AttentionScope::kDocument);
  EXPECT_THAT(spec->labels, ElementsAre("dense", ""));
  EXPECT_EQ(spec->max_samples_per_domain, 16);

  Json none = json;
  none["models"] = Json::array();
  EXPECT_THAT(ToString(ParseEvaluateSpec(none).status()), HasSubstr("at least one"));
}

TEST(RunSpecTest, ParseConstructSpec_ReadsSeedWrittenAsString) {
  const auto spec = ParseConstructSpec(Json::parse(R"json({
    "method": "independent-random", "num_experts": 16, "top_k": 4, "score_scale_factor": 4,
    "gate_network": "mlp", "gate": "noisy-top-k", "gate_init": "random",
    "num_shared_experts": 0, "learn_scale": false, "seed": "-1"})json"));
  ASSERT_TRUE(spec.ok()) << ToString(spec.status());
  EXPECT_EQ(spec->method.num_experts, 16);
  EXPECT_EQ(spec->method.seed, ~uint64_t{0});
}

TEST(RunSpecTest, ParseConstructSpec_UnknownMethod_ListsTheKnown) {
  const Json json = Json::parse(R"json({
    "method": "clustering", "num_experts": 16, "top_k": 4, "score_scale_factor": 4,
    "gate_network": "mlp", "gate": "noisy-top-k", "gate_init": "random",
    "num_shared_experts": 0, "learn_scale": false, "seed": "1"})json");
  EXPECT_THAT(ToString(ParseConstructSpec(json).status()),
              AllOf(HasSubstr("\"clustering\""), HasSubstr("independent-random")));
}

}  // namespace
}  // namespace moe::rank
