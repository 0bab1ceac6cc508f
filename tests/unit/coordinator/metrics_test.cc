#include "coordinator/metrics.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <prometheus/text_serializer.h>

#include "common/status.h"

namespace moe::coordinator {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;

v1::Job TrainJobNamed(const std::string& name, const std::string& job_id) {
  v1::Job job;
  job.set_job_id(job_id);
  job.mutable_spec()->set_name(name);
  job.mutable_spec()->mutable_train();
  return job;
}

v1::StepReport StepWithRouting() {
  v1::StepReport step;
  step.set_step(2);
  step.set_loss(14.5);
  step.set_tokens(8192);
  step.set_tokens_per_second(2048);
  step.set_step_seconds(2);
  v1::LayerRouting& layer = *step.add_routing();
  for (const int64_t load : {6, 2, 4, 4}) layer.add_load(load);
  layer.set_dropped(4);
  v1::DomainCount& books = *step.add_domains();
  books.set_domain("books");
  books.set_samples(3);
  v1::DomainCount& github = *step.add_domains();
  github.set_domain("github");
  github.set_samples(1);
  return step;
}

std::string Page(const CoordinatorMetrics& metrics) {
  return prometheus::TextSerializer().Serialize(metrics.registry()->Collect());
}

TEST(CoordinatorMetricsTest, Step_ExportsTheCurveAndTheRouting) {
  CoordinatorMetrics metrics({});
  metrics.OnStep(TrainJobNamed("train", "j3"), StepWithRouting());
  const std::string page = Page(metrics);
  EXPECT_THAT(page, HasSubstr("moe_train_loss{job_name=\"train\"} 14.5"));
  EXPECT_THAT(page, HasSubstr("moe_train_tokens_total{job_name=\"train\"} 4096"));
  // 6 of 16 tokens where 4 would be balanced.
  EXPECT_THAT(page,
              HasSubstr("moe_router_load_ratio{expert=\"0\",job_name=\"train\",layer=\"0\"} 1.5"));
  EXPECT_THAT(page, HasSubstr("moe_router_load_cv_ratio{job_name=\"train\",layer=\"0\"} 0.3535"));
  EXPECT_THAT(page, HasSubstr("moe_router_dropped_ratio{job_name=\"train\",layer=\"0\"} 0.25"));
  EXPECT_THAT(
      page, HasSubstr("moe_sampler_domain_weight_ratio{domain=\"books\",job_name=\"train\"} 0.75"));
  EXPECT_THAT(page, HasSubstr("moe_checkpoint_save_failures_total{job_name=\"train\"} 0"));
  EXPECT_THAT(page, Not(HasSubstr("instance=")));
}

TEST(CoordinatorMetricsTest, Sharing_ShowsQueuesAndWhereTimeWent) {
  CoordinatorMetrics metrics({});
  v1::Queue queue;
  queue.set_name("research");
  queue.set_quota_slots(6);
  queue.set_used_slots(8);
  queue.set_queued_jobs(3);
  metrics.sharing().SetQueues({queue});
  v1::SlotSeconds time;
  time.set_productive(90);
  metrics.sharing().SetGoodput(time);
  time.set_productive(100);
  time.set_hung(5);
  metrics.sharing().SetGoodput(time);
  const std::string page = Page(metrics);
  EXPECT_THAT(page, HasSubstr("moe_queue_slots{kind=\"quota\",queue=\"research\"} 6"));
  EXPECT_THAT(page, HasSubstr("moe_queue_slots{kind=\"used\",queue=\"research\"} 8"));
  EXPECT_THAT(page, Not(HasSubstr("kind=\"limit\""))) << "it has none";
  EXPECT_THAT(page, HasSubstr("moe_queue_jobs{queue=\"research\",state=\"queued\"} 3"));
  EXPECT_THAT(page, HasSubstr("moe_slot_seconds_total{activity=\"productive\"} 100"));
  EXPECT_THAT(page, HasSubstr("moe_slot_seconds_total{activity=\"hung\"} 5"));
}

TEST(CoordinatorMetricsTest, Series_EndSomeTimeAfterTheirJob) {
  CoordinatorMetrics metrics({.keep_series_ms = 1000});
  const v1::Job job = TrainJobNamed("train", "j3");
  metrics.OnStep(job, StepWithRouting());
  metrics.OnJobState(5000, job, v1::JOB_STATE_RUNNING, v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(metrics.RemoveOld(5999), 6000);
  EXPECT_THAT(Page(metrics), HasSubstr("job_name=\"train\""));
  metrics.RemoveOld(6000);
  EXPECT_THAT(Page(metrics), Not(HasSubstr("job_name=\"train\"")));
}

TEST(CoordinatorMetricsTest, Series_AreCapped) {
  CoordinatorMetrics metrics({.max_jobs = 2});
  metrics.OnStep(TrainJobNamed("a", "j1"), StepWithRouting());
  metrics.OnStep(TrainJobNamed("b", "j2"), StepWithRouting());
  metrics.OnStep(TrainJobNamed("c", "j3"), StepWithRouting());
  EXPECT_THAT(Page(metrics), Not(HasSubstr("job_name=\"c\"")));
  metrics.OnJobState(1, TrainJobNamed("a", "j1"), v1::JOB_STATE_RUNNING, v1::JOB_STATE_FAILED);
  metrics.OnStep(TrainJobNamed("c", "j3"), StepWithRouting());
  EXPECT_THAT(Page(metrics), HasSubstr("job_name=\"c\""));
  EXPECT_THAT(Page(metrics), Not(HasSubstr("job_name=\"a\"")));
}

TEST(CoordinatorMetricsTest, TwoJobsOfOneName_HaveSeriesOfTheirOwn) {
  CoordinatorMetrics metrics({});
  metrics.OnStep(TrainJobNamed("train", "j3"), StepWithRouting());
  metrics.OnStep(TrainJobNamed("train", "j7"), StepWithRouting());
  EXPECT_THAT(Page(metrics), HasSubstr("moe_train_loss{job_name=\"train\"}"));
  EXPECT_THAT(Page(metrics), HasSubstr("moe_train_loss{job_name=\"train-j7\"}"));
}

TEST(CoordinatorMetricsTest, Report_ExportsLossesByModelAndDomain) {
  CoordinatorMetrics metrics({});
  v1::Job job = TrainJobNamed("evaluate", "j4");
  v1::Artefact report;
  report.set_kind(v1::ARTEFACT_KIND_REPORT);
  auto& table = (*report.mutable_metadata()->mutable_fields())["table"];
  for (const auto& cells : std::vector<std::vector<std::string>>{
           {"domain", "dense loss", "dense ppl"}, {"books", "3.1800", "24.0"}, {"c4", "-", "-"}}) {
    auto& row = *table.mutable_list_value()->add_values()->mutable_list_value();
    for (const std::string& cell : cells) row.add_values()->set_string_value(cell);
  }
  metrics.OnArtefact(job, report, {});
  const std::string page = Page(metrics);
  EXPECT_THAT(
      page,
      HasSubstr(
          "moe_evaluation_loss{domain=\"books\",job_name=\"evaluate\",model=\"dense\"} 3.18"));
  EXPECT_THAT(page, Not(HasSubstr("domain=\"c4\"")));
}

TEST(CoordinatorMetricsTest, List_NamesEveryExportedFamily) {
  CoordinatorMetrics metrics({});
  metrics.OnStep(TrainJobNamed("train", "j3"), StepWithRouting());
  std::map<std::string, std::string> listed;
  for (const MetricList::Entry& entry : metrics.list().entries()) listed[entry.name] = entry.help;
  for (const auto& family : metrics.registry()->Collect()) {
    EXPECT_TRUE(listed.contains(family.name)) << family.name;
  }
}

}  // namespace
}  // namespace moe::coordinator
