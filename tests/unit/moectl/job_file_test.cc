#include "moectl/job_file/job_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "common/file.h"
#include "common/status.h"
#include "moe/v1/job.pb.h"
#include "moectl/job_file/message_reader.h"

namespace moe::moectl {
namespace {

using moe::v1::SubmitPipelineRequest;
using testing::ElementsAre;
using testing::EndsWith;
using testing::HasSubstr;

absl::StatusOr<SubmitPipelineRequest> Parse(const std::string& text,
                                            std::vector<std::string> settings = {}) {
  return ParseJobFile(text, "job.yaml", {.settings = std::move(settings), .home = "/home/u"});
}

// The message of a file that must be refused.
std::string Refusal(const std::string& text, std::vector<std::string> settings = {}) {
  const auto request = Parse(text, std::move(settings));
  if (request.ok()) return "was accepted";
  EXPECT_EQ(request.status().code(), absl::StatusCode::kInvalidArgument);
  return Message(request.status());
}

// A file whose one train job holds `lines`, each of which is indented by six spaces.
std::string TrainJob(const std::string& lines) {
  return "pipeline: p\njobs:\n  - name: t\n    train:\n" + lines;
}

TEST(JobFileTest, EveryShapeOfField_IsRead) {
  const auto request = Parse(R"(
pipeline: everything
jobs:
  - name: data
    labels: {team: a, stage: "1"}
    prepare:
      tokenizer: {path: ~/model.gguf}
      domains:
        - {name: c4, paths: [~/c4, /srv/c4]}
      add_bos: false
      max_tokens_per_domain: 9000000000
  - name: t
    needs: [data]
    train:
      model: {artefact: "m:2"}
      steps: 7
      gate_noise: true
      optimizer: {learning_rate: 2e-4}
      mixture: {weights: {c4: 0.25, github: 1}}
)");
  ASSERT_TRUE(request.ok()) << Message(request.status());
  EXPECT_EQ(request->pipeline_name(), "everything");
  ASSERT_EQ(request->jobs_size(), 2);
  const auto& prepare = request->jobs(0).prepare();
  EXPECT_EQ(request->jobs(0).labels().at("stage"), "1");
  EXPECT_EQ(prepare.tokenizer().path(), "/home/u/model.gguf");
  EXPECT_THAT(prepare.domains(0).paths(), ElementsAre("/home/u/c4", "/srv/c4"));
  EXPECT_TRUE(prepare.has_add_bos());
  EXPECT_FALSE(prepare.add_bos());
  EXPECT_EQ(prepare.max_tokens_per_domain(), 9'000'000'000);
  const auto& train = request->jobs(1).train();
  EXPECT_THAT(request->jobs(1).needs(), ElementsAre("data"));
  EXPECT_EQ(train.model().artefact(), "m:2");
  EXPECT_EQ(train.steps(), 7);
  EXPECT_EQ(train.optimizer().learning_rate(), 2e-4);
  EXPECT_EQ(train.mixture().weights().at("c4"), 0.25);
  // What the file leaves out stays out: the coordinator owns the defaults.
  EXPECT_FALSE(train.has_sequence_length());
}

TEST(JobFileTest, TheExample_IsAccepted) {
  const char* source = std::getenv("MOE_SOURCE_DIR");
  ASSERT_NE(source, nullptr);
  const auto text = ReadFile(JoinPath(source, "examples/smollm2-moe.yaml"));
  ASSERT_TRUE(text.ok());
  const auto request = Parse(*text, {"steps=9"});
  ASSERT_TRUE(request.ok()) << Message(request.status());
  ASSERT_EQ(request->jobs_size(), 5);
  EXPECT_EQ(request->jobs(0).prepare().domains_size(), 7);
  EXPECT_EQ(request->jobs(2).train().steps(), 9);
}

struct BadFile {
  const char* what;
  std::string text;
  const char* message;
};

class BadFileTest : public testing::TestWithParam<BadFile> {};

TEST_P(BadFileTest, IsRefusedWithThePlace) {
  EXPECT_EQ(Refusal(GetParam().text), GetParam().message);
}

INSTANTIATE_TEST_SUITE_P(
    JobFile, BadFileTest,
    testing::Values(
        BadFile{"MistypedKey", TrainJob("      stpes: 5\n"),
                "job.yaml:5:7: jobs[0].train: unknown key 'stpes'; did you mean 'steps'?"},
        BadFile{"UnknownKey", TrainJob("      optimizer: {colour: 1}\n"),
                "job.yaml:5:19: jobs[0].train.optimizer: unknown key 'colour'; known are: "
                "learning_rate, final_learning_rate_ratio, warmup_steps, beta1, beta2, epsilon, "
                "weight_decay, clip_norm, groups"},
        BadFile{"UnknownKind", "pipeline: p\njobs:\n  - name: t\n    tarin: {}\n",
                "job.yaml:4:5: jobs[0]: unknown key 'tarin'; did you mean 'train'?"},
        BadFile{"UnknownSection", "pipeline: p\njob: []\njobs: [{name: t, export: {}}]\n",
                "job.yaml:2:1: unknown key 'job'; did you mean 'jobs'?"},
        BadFile{"RepeatedKey", TrainJob("      steps: 5\n      steps: 6\n"),
                "job.yaml:6:7: jobs[0].train: key 'steps' given twice, first in line 5"},
        BadFile{"RepeatedMapKey", TrainJob("      mixture: {weights: {a: 1, a: 2}}\n"),
                "job.yaml:5:33: jobs[0].train.mixture.weights.a: given twice, first in line 5"},
        BadFile{"TextForInteger", TrainJob("      steps: many\n"),
                "job.yaml:5:14: jobs[0].train.steps: expected an integer, got 'many'"},
        BadFile{"QuotedNumber", TrainJob("      steps: \"5\"\n"),
                "job.yaml:5:14: jobs[0].train.steps: expected an integer, got the text '5'"},
        BadFile{"FractionForInteger", TrainJob("      steps: 2.5\n"),
                "job.yaml:5:14: jobs[0].train.steps: expected an integer, got '2.5'"},
        BadFile{"IntegerOutOfRange", TrainJob("      steps: 3000000000\n"),
                "job.yaml:5:14: jobs[0].train.steps: 3000000000 is outside -2147483648 to "
                "2147483647"},
        BadFile{"NotANumber", TrainJob("      balance_loss_weight: .nan\n"),
                "job.yaml:5:28: jobs[0].train.balance_loss_weight: expected a number, got '.nan'"},
        BadFile{"NumberBeyondDouble", TrainJob("      balance_loss_weight: 1e999\n"),
                "job.yaml:5:28: jobs[0].train.balance_loss_weight: 1e999 is beyond the limit "
                "1.7976931348623157e+308"},
        BadFile{"WordForBool", TrainJob("      gate_noise: yes\n"),
                "job.yaml:5:19: jobs[0].train.gate_noise: expected true or false, got 'yes'"},
        BadFile{"ListForText", TrainJob("      output: [a]\n"),
                "job.yaml:5:15: jobs[0].train.output: expected text, got a list"},
        BadFile{"TextForList", "pipeline: p\njobs:\n  - name: t\n    needs: a\n    export: {}\n",
                "job.yaml:4:12: jobs[0].needs: expected a list, got 'a'"},
        BadFile{"ScalarForMessage", TrainJob("      model: construct\n"),
                "job.yaml:5:14: jobs[0].train.model: expected a mapping with some of the keys "
                "path, artefact, got 'construct'"},
        BadFile{
            "NothingForScalar", TrainJob("      steps:\n"),
            "job.yaml:5:7: jobs[0].train: key 'steps' has no value; remove it to take the default"},
        BadFile{"BothSources", TrainJob("      model: {path: /a, artefact: b}\n"),
                "job.yaml:5:25: jobs[0].train.model: 'path' and 'artefact' exclude each other; "
                "keep one"},
        BadFile{"NoSource", TrainJob("      model: {}\n"),
                "job.yaml:5:14: jobs[0].train.model: needs one of path, artefact"},
        BadFile{"NoKind", "pipeline: p\njobs:\n  - name: t\n",
                "job.yaml:3:5: jobs[0]: needs one of prepare, construct, train, evaluate, export, "
                "finetune"},
        BadFile{"TwoKinds", "pipeline: p\njobs:\n  - name: t\n    train: {}\n    export: {}\n",
                "job.yaml:5:5: jobs[0]: 'train' and 'export' exclude each other; keep one"},
        BadFile{"NoJobs", "pipeline: p\njobs: []\n",
                "job.yaml:2:7: jobs: expected a list of at least one job"},
        BadFile{"NoPipeline", "jobs: [{name: t, export: {}}]\n",
                "job.yaml:1:1: key 'pipeline' is missing: give the pipeline a name"},
        BadFile{"Empty", "", "job.yaml: the file is empty"},
        BadFile{"NotAMapping", "- a\n",
                "job.yaml:1:1: a job file is a mapping with the keys pipeline, parameters, jobs"},
        BadFile{
            "UnknownParameter",
            "pipeline: p\nparameters: {corpus: /c}\njobs:\n  - name: ${corpse}\n    export: {}\n",
            "job.yaml:4:11: unknown parameter 'corpse' in '${corpse}'; did you mean 'corpus'?"},
        BadFile{"UnclosedParameter", TrainJob("      output: \"${a\"\n"),
                "job.yaml:5:15: '${a': \"${\" without \"}\"; for a plain \"$\" write \"$$\""},
        BadFile{"ParameterWithoutValue",
                "pipeline: p\nparameters:\n  corpus:\njobs: [{name: t, export: {}}]\n",
                "job.yaml:3:3: parameter 'corpus' has no default: pass --set corpus=VALUE"}),
    [](const auto& info) { return info.param.what; });

TEST(JobFileTest, BrokenYaml_IsRefusedWithThePlace) {
  EXPECT_THAT(Refusal("pipeline: p\njobs: [\n"), HasSubstr("job.yaml:3:1: "));
}

TEST(JobFileTest, UnquotedParameterInsideBraces_IsExplained) {
  EXPECT_THAT(Refusal(TrainJob("      model: {path: ${a}}\n")),
              EndsWith("; inside { } put a value with ${NAME} in quotes"));
}

TEST(JobFileTest, SecondDocument_IsRefused) {
  EXPECT_THAT(Refusal("pipeline: p\njobs: [{name: t, export: {}}]\n---\npipeline: q\n"),
              HasSubstr("a second document"));
}

TEST(JobFileTest, SeveralProblems_AreAllReportedInTheOrderOfTheFile) {
  EXPECT_EQ(Refusal(TrainJob("      stpes: 5\n      seed: x\n") + "  - naem: u\n"),
            "job.yaml:5:7: jobs[0].train: unknown key 'stpes'; did you mean 'steps'?\n"
            "job.yaml:6:13: jobs[0].train.seed: expected an integer, got 'x'\n"
            "job.yaml:7:5: jobs[1]: unknown key 'naem'; did you mean 'name'?");
}

TEST(JobFileTest, MoreThanTwentyProblems_AreCounted) {
  std::string lines;
  for (int i = 0; i < 23; ++i) lines += "      zzzzzz" + std::to_string(i) + ": 1\n";
  EXPECT_THAT(Refusal(TrainJob(lines)), EndsWith("\njob.yaml: and 3 more problems"));
}

constexpr char kParametrised[] =
    "pipeline: ${who}-moe\n"
    "parameters: {who: a, steps: 5, price: 1}\n"
    "jobs:\n"
    "  - name: t\n"
    "    labels: {price: \"$$${price}\"}\n"
    "    train: {steps: \"${steps}\", output: \"${who}-${who}\"}\n";

TEST(ParametersTest, Defaults_AreFilledIn) {
  const auto request = Parse(kParametrised);
  ASSERT_TRUE(request.ok()) << Message(request.status());
  EXPECT_EQ(request->pipeline_name(), "a-moe");
  EXPECT_EQ(request->jobs(0).train().steps(), 5);
  EXPECT_EQ(request->jobs(0).train().output(), "a-a");
  EXPECT_EQ(request->jobs(0).labels().at("price"), "$1");
}

TEST(ParametersTest, Set_OverridesAndTheLastWins) {
  const auto request = Parse(kParametrised, {"steps=6", "steps=7", "who=x=${y}"});
  ASSERT_TRUE(request.ok()) << Message(request.status());
  EXPECT_EQ(request->jobs(0).train().steps(), 7);
  // Values are not searched for parameters.
  EXPECT_EQ(request->pipeline_name(), "x=${y}-moe");
}

TEST(ParametersTest, SetOfAnUnknownName_IsRefused) {
  EXPECT_EQ(Refusal(kParametrised, {"step=6"}),
            "--set step=6: the file has no parameter 'step'; did you mean 'steps'?");
  EXPECT_EQ(Refusal(kParametrised, {"steps"}), "--set steps: expected name=value");
}

TEST(ParametersTest, ValueOfAWrongType_IsRefusedWhereItIsUsed) {
  EXPECT_EQ(Refusal(kParametrised, {"steps=all"}),
            "job.yaml:6:20: jobs[0].train.steps: expected an integer, got 'all'");
}

TEST(MessageReaderTest, Enum_IsReadByNameAndRefusedWithTheNearest) {
  Problems problems("f");
  const Parameters parameters = Parameters::Read(YAML::Node(), {}, &problems);
  const ReadContext context{parameters, "", &problems};
  moe::v1::Job job;
  ReadMessage(YAML::Load("{state: JOB_STATE_QUEUED}"), "", context, &job);
  EXPECT_EQ(job.state(), moe::v1::JOB_STATE_QUEUED);
  EXPECT_TRUE(problems.empty());
  ReadMessage(YAML::Load("{state: JOB_STATE_QEUED}"), "", context, &job);
  EXPECT_EQ(problems.ToString(),
            "f:1:9: state: unknown value 'JOB_STATE_QEUED'; did you mean 'JOB_STATE_QUEUED'?");
}

}  // namespace
}  // namespace moe::moectl
