// What people see, word for word.
#include <gmock/gmock.h>
#include <google/protobuf/text_format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <tuple>

#include "moectl/render/cluster_table.h"
#include "moectl/render/job_page.h"
#include "moectl/render/job_table.h"
#include "moectl/render/job_text.h"
#include "moectl/render/output.h"
#include "moectl/render/sampler_plot.h"
#include "moectl/render/watch_board.h"

namespace moe::moectl {
namespace {

// 2023-11-14 22:13:20 UTC.
constexpr int64_t kEpochSeconds = 1'700'000'000;
constexpr int64_t kNowMillis = (kEpochSeconds + 600) * 1000;

template <typename Message>
Message Text(const std::string& text) {
  Message message;
  EXPECT_TRUE(google::protobuf::TextFormat::ParseFromString(text, &message));
  return message;
}

class RenderTest : public testing::Test {
 protected:
  RenderTest() {
    setenv("TZ", "UTC", 1);
    tzset();
  }
};

const char kRunning[] = R"(
  job_id: "j3" pipeline_id: "p1" state: JOB_STATE_RUNNING attempt: 2 user: "ada"
  spec { name: "train" max_infrastructure_retries: 10
         train { model { artefact: "construct" } dataset { artefact: "corpus:1" } steps: 60 } }
  create_time { seconds: 1700000000 } start_time { seconds: 1700000060 }
  infrastructure_failures: 1 need_job_ids: "j1" need_job_ids: "j2"
  placements { worker_id: "w1" slots: 0 slots: 1 }
  outputs: "train:1"
  progress { done: 30 total: 60 unit: "steps" phase: "training"
             last_step { step: 30 loss: 7.25 balance_loss: 0.0123 learning_rate: 2e-4
                         gradient_norm: 1.5 tokens: 122880 step_seconds: 2 tokens_per_second: 2048
                         domains { domain: "c4" samples: 36 loss: 6.5 }
                         domains { domain: "books" samples: 4 } } })";

TEST_F(RenderTest, JobTable) {
  moe::v1::ListJobsResponse jobs;
  *jobs.add_jobs() = Text<moe::v1::Job>(kRunning);
  *jobs.add_jobs() = Text<moe::v1::Job>(
      R"(job_id: "j4" spec { name: "eval" evaluate {} } state: JOB_STATE_PENDING
         reason: "waits for j3" create_time { seconds: 1700000000 })");
  EXPECT_EQ(RenderJobTable(jobs, false, kNowMillis, {}),
            "JOB  NAME   KIND      STATE    PROGRESS     REASON        AGE\n"
            "j3   train  train     RUNNING  30/60 steps  training      10m\n"
            "j4   eval   evaluate  PENDING  <none>       waits for j3  10m\n");
}

TEST_F(RenderTest, JobPage) {
  JobPage page;
  page.job = Text<moe::v1::Job>(kRunning);
  page.outputs = {Text<moe::v1::Artefact>(
      R"(name: "train" version: 1 path: "/srv/checkpoint/j3.1/step-00000020" size_bytes: 3145728)")};
  page.events = Text<moe::v1::ListEventsResponse>(
      R"(events { time { seconds: 1700000000 } state: JOB_STATE_PENDING cause: CAUSE_NEEDS_UNMET
                  message: "submitted" }
         events { time { seconds: 1700000060 } state: JOB_STATE_STARTING attempt: 1
                  message: "attempt 1 on w1" })");
  EXPECT_EQ(RenderJobPage(page, kNowMillis, {}),
            R"(Job:          j3
Name:         train
Kind:         train
Pipeline:     p1
User:         ada
State:        RUNNING
Attempt:      2
Failures:     1 of 10 that are allowed before the job fails
Placement:    w1[0,1]
Created:      2023-11-14 22:13:20 (10m ago)
Started:      2023-11-14 22:14:20 (9m ago)
Needs:        j1 j2
Progress:     [===============>              ] 30/60 steps, 1m00s left
Phase:        training

Inputs:
  model: artefact construct
  dataset: artefact corpus:1

Outputs:
  ARTEFACT     SIZE  PATH
  train:1   3.0 MiB  /srv/checkpoint/j3.1/step-00000020

Last step:
  step 30: loss 7.2500, balance loss 0.0123, learning rate 0.0002, gradient norm 1.500
  2.00 s, 2048 tokens/s, 122880 tokens so far
  DOMAIN  SAMPLES    LOSS
  c4           36  6.5000
  books         4  <none>

Events:
  TIME                 ATTEMPT  STATE     CAUSE        MESSAGE
  2023-11-14 22:13:20   <none>  PENDING   NEEDS_UNMET  submitted
  2023-11-14 22:14:20        1  STARTING  <none>       attempt 1 on w1
)");
}

TEST_F(RenderTest, EvaluateJobPage_HasTheReportsTableAndNumberedInputs) {
  JobPage page;
  page.job = Text<moe::v1::Job>(
      R"(job_id: "j5" state: JOB_STATE_SUCCEEDED outputs: "evaluate:1"
         spec { name: "evaluate" evaluate { models { label: "dense" model { path: "/m" } }
                                            models { label: "moe" model { artefact: "train" } } } })");
  auto cells = [](const std::string& a, const std::string& b) {
    return "values { list_value { values { string_value: \"" + a +
           "\" } values { string_value: \"" + b + "\" } } } ";
  };
  page.outputs = {Text<moe::v1::Artefact>(
      "name: \"evaluate\" version: 1 metadata { fields { key: \"table\" value { list_value { " +
      cells("domain", "dense ppl") + cells("c4", "24.1") + cells("mean", "1000.55") + "} } } }")};
  const std::string text = RenderJobPage(page, kNowMillis, {});
  EXPECT_THAT(text, testing::HasSubstr("  models[0]: /m\n  models[1]: artefact train\n"));
  EXPECT_THAT(text, testing::HasSubstr("Result:\n"
                                       "  domain  dense ppl\n"
                                       "  c4           24.1\n"
                                       "  mean      1000.55\n"));
}

TEST_F(RenderTest, StepTableAndCsv) {
  moe::v1::ListStepsResponse steps;
  *steps.add_steps() = Text<moe::v1::Job>(kRunning).progress().last_step();
  EXPECT_EQ(RenderStepTable(steps, {}),
            "STEP    LOSS  BALANCE      LR  GRAD_NORM  TOKENS  SECONDS  TOKENS/S\n"
            "  30  7.2500   0.0123  0.0002      1.500  122880     2.00      2048\n");
  EXPECT_EQ(RenderStepCsv(steps),
            "step,loss,balance_loss,learning_rate,gradient_norm,tokens,step_seconds,"
            "tokens_per_second,batch_crc32c\n"
            "30,7.25,0.0123,0.0002,1.5,122880,2,2048,0\n");
}

TEST_F(RenderTest, WorkerTable) {
  const auto workers = Text<moe::v1::ListWorkersResponse>(
      R"(workers { worker_id: "w1" state: WORKER_STATE_READY host: "node1" version: "0.1.0"
                   slots { index: 0 device: "cpu" attempt: "j3.2" } slots { index: 1 device: "cpu" }
                   last_heartbeat_time { seconds: 1700000597 } })");
  EXPECT_EQ(RenderWorkerTable(workers, true, kNowMillis, {}),
            "WORKER  STATE  SLOTS  BUSY  DEVICE  HOST   VERSION  ATTEMPTS  HEARD\n"
            "w1      READY      2     1  cpu     node1  0.1.0    j3.2      3s ago\n");
}

TEST_F(RenderTest, ArtefactTable) {
  const auto artefacts = Text<moe::v1::ListArtefactsResponse>(
      R"(artefacts { name: "train" version: 2 kind: ARTEFACT_KIND_CHECKPOINT size_bytes: 1536
                     job_id: "j3" attempt: 1 step: 40 create_time { seconds: 1700000000 } })");
  EXPECT_EQ(RenderArtefactTable(artefacts, false, kNowMillis, {}),
            "NAME     KIND        STEP     SIZE  JOB   AGE\n"
            "train:2  checkpoint    40  1.5 KiB  j3.1  10m\n");
}

TEST_F(RenderTest, Yaml_KeepsTheOrderOfTheProtoAndQuotesWhatLooksLikeANumber) {
  const auto ref = Text<moe::v1::Job>(R"(job_id: "j1" revision: 7 placements { slots: [0, 1] })");
  const std::string yaml = ToYaml(ref);
  EXPECT_THAT(yaml, testing::StartsWith("job_id: j1\n"));
  EXPECT_THAT(yaml, testing::HasSubstr("slots: [0, 1]"));
}

TEST_F(RenderTest, RemainingSeconds_OfOtherJobsIsByTheirPace) {
  auto job = Text<moe::v1::Job>(
      R"(state: JOB_STATE_RUNNING start_time { seconds: 1700000000 }
         progress { done: 100 total: 400 unit: "files" })");
  EXPECT_EQ(RemainingSeconds(job, 0, kNowMillis), 1800.0);
  job.set_state(moe::v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(RemainingSeconds(job, 0, kNowMillis), std::nullopt);
}

TEST_F(RenderTest, WatchBoard_ShowsNoMoreThanTheTerminalHolds) {
  std::vector<moe::v1::Job> jobs;
  for (int i = 1; i <= 10; ++i) {
    auto job = Text<moe::v1::Job>(kRunning);
    job.set_job_id("j" + std::to_string(i));
    if (i <= 5) job.set_state(moe::v1::JOB_STATE_SUCCEEDED);
    jobs.push_back(job);
  }
  const WatchBoard board(jobs);
  const std::string region =
      board.RenderRegion(kNowMillis, {.is_terminal = true, .columns = 50, .rows = 6});
  EXPECT_EQ(std::count(region.begin(), region.end(), '\n'), 5) << region;
  EXPECT_THAT(region, testing::HasSubstr("j6 "));
  EXPECT_THAT(region, testing::Not(testing::HasSubstr("j1 ")));
  size_t begin = 0;
  for (size_t end = region.find('\n'); end != std::string::npos; end = region.find('\n', begin)) {
    EXPECT_LE(end - begin, 50u);
    begin = end + 1;
  }
}

TEST_F(RenderTest, SamplerPlot_PutsEveryNumberWhereTheAxesSay) {
  moe::v1::ListDecisionsResponse journal;
  moe::v1::SamplerDecision& decision = *journal.add_decisions();
  decision.set_tokens(1000);
  for (const auto& [name, loss, weight] :
       {std::tuple{"c4", 3.0, 0.8}, std::tuple{"github", 2.0, 0.2}}) {
    moe::v1::DecidedDomain& domain = *decision.add_domains();
    domain.set_domain(name);
    domain.set_loss(loss);
    domain.set_reference_loss(2.0);
    domain.set_old_weight(0.5);
    domain.set_new_weight(weight);
  }
  const std::string svg = PlotDecisions(journal);
  // Weights from 0 at 280 to 0.8 at 50, losses from 2 at 590 to 3 at 360, the excess from 0 at 900
  // to 1 at 670; tokens from 0 at 70 to 1000 at 670.
  for (const char* line :
       {"class=\"weight\" data-domain=\"c4\"", "points=\"70.00,136.25 670.00,136.25 670.00,50.00\"",
        "class=\"weight\" data-domain=\"github\"",
        "points=\"70.00,136.25 670.00,136.25 670.00,222.50\"", "class=\"loss\" data-domain=\"c4\"",
        "points=\"670.00,360.00\"", "class=\"loss\" data-domain=\"github\"",
        "points=\"670.00,590.00\"", "class=\"excess\" data-domain=\"c4\"",
        "points=\"670.00,670.00\"", "class=\"excess\" data-domain=\"github\"",
        "points=\"670.00,900.00\""}) {
    EXPECT_THAT(svg, testing::HasSubstr(line));
  }
}

}  // namespace
}  // namespace moe::moectl
