// Arrays: one record until its elements can start.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "coordinator/job_array.h"
#include "core_fixture.h"

namespace moe::coordinator {
namespace {

using ::testing::HasSubstr;

v1::JobSpec Sweep(int32_t size, int32_t max_running) {
  v1::JobSpec spec = ConstructJob("sweep");
  spec.mutable_array()->set_max_running(max_running);
  v1::ArrayField& field = *spec.mutable_array()->add_fields();
  field.set_field("construct.seed");
  for (int32_t i = 0; i < size; ++i) field.add_values(std::to_string(100 + i));
  return spec;
}

TEST(JobArrayTest, Elements_DifferInTheirFieldsAndInWhatTheyMake) {
  v1::JobSpec spec = Sweep(3, 0);
  v1::ArrayField& rate = *spec.mutable_array()->add_fields();
  rate.set_field("construct.score_scale_factor");
  for (const char* value : {"0.5", "1", "2e0"}) rate.add_values(value);
  ASSERT_TRUE(CompleteArray(&spec).ok());
  EXPECT_EQ(spec.array().size(), 3);
  const v1::JobSpec last = ElementOf(spec, 2);
  EXPECT_EQ(last.name(), "sweep-2");
  EXPECT_EQ(last.construct().seed(), 102);
  EXPECT_EQ(last.construct().score_scale_factor(), 2);
  EXPECT_EQ(last.construct().output(), "sweep-2");
  EXPECT_FALSE(last.has_array());
}

struct BadArray {
  const char* name;
  const char* field;
  std::vector<std::string> values;
  std::string says;
};

class BadArrayTest : public ::testing::TestWithParam<BadArray> {};

TEST_P(BadArrayTest, IsRefusedWithTheFieldAndTheValue) {
  v1::JobSpec spec = ConstructJob("sweep");
  spec.mutable_array()->set_size(2);
  v1::ArrayField& field = *spec.mutable_array()->add_fields();
  field.set_field(GetParam().field);
  for (const std::string& value : GetParam().values) field.add_values(value);
  const absl::Status status = CompleteArray(&spec);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(Message(status), HasSubstr(GetParam().says));
}

INSTANTIATE_TEST_SUITE_P(
    All, BadArrayTest,
    ::testing::Values(
        BadArray{"Unknown", "construct.sede", {"1", "2"}, "did you mean 'seed'?"},
        BadArray{"TooFew", "construct.seed", {"1"}, "has 1 values for 2 elements"},
        BadArray{"NoNumber", "construct.seed", {"1", "x"}, "takes an integer, and 'x' is none"},
        BadArray{"TooLarge", "construct.top_k", {"1", "99999999999"}, "takes an integer"},
        BadArray{"NoBool", "construct.overlap", {"true", "yes"}, "takes true or false"},
        BadArray{"NotANumber", "construct.score_scale_factor", {"1", "nan"}, "takes a number"},
        BadArray{"Mapping", "construct.clustering", {"1", "2"}, "name one of its keys"},
        BadArray{"List", "construct.layers", {"1", "2"}, "is a list"},
        BadArray{"BelowAValue", "construct.seed.x", {"1", "2"}, "no keys below it"},
        BadArray{"Name", "name", {"a", "b"}, "the same for all elements"},
        BadArray{"Label", "labels.a", {"a", "b"}, "the same for all elements"},
        BadArray{"AnotherKind", "train.seed", {"1", "2"}, "the kind that the job has"}),
    [](const auto& param) { return param.param.name; });

class ArraysTest : public CoreFixture {};

TEST_F(ArraysTest, Elements_AreMadeWhenTheyCanStart) {
  ASSERT_TRUE(Submit({Sweep(50, 2)}, "w").ok());
  EXPECT_EQ(State("j1"), v1::JOB_STATE_PENDING);
  Connect("w1", 4);
  EXPECT_EQ(State("j2"), v1::JOB_STATE_STARTING);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_STARTING);
  EXPECT_EQ(jobs_->Find("j4"), nullptr) << "two at once, whatever is free";
  EXPECT_EQ(Job("j2").array_job_id(), "j1");
  EXPECT_EQ(Job("j3").array_index(), 1);
  EXPECT_EQ(Job("j3").spec().construct().seed(), 101);
  EXPECT_EQ(Job("j1").array().live(), 2);
  EXPECT_EQ(Job("j1").array().waiting(), 48);
  RunToSuccess("w1", "j2");
  EXPECT_EQ(State("j4"), v1::JOB_STATE_STARTING);
  EXPECT_EQ(Job("j1").array().succeeded(), 1);
}

TEST_F(ArraysTest, WithoutALimit_AsManyAsThereAreSlotsForAndAsManyAhead) {
  ASSERT_TRUE(Submit({Sweep(50, 0)}, "w").ok());
  Connect("w1", 3);
  EXPECT_EQ(Job("j1").array().live(), 7);
}

TEST_F(ArraysTest, EndsWithItsLastElement) {
  ASSERT_TRUE(Submit({Sweep(2, 1)}, "w").ok());
  v1::JobSpec after = PrepareJob("after");
  after.add_after_ok("j1");
  ASSERT_TRUE(Submit({after}, "w2").ok());
  Connect("w1", 1);
  RunToSuccess("w1", "j3");
  EXPECT_EQ(State("j1"), v1::JOB_STATE_PENDING);
  RunToSuccess("w1", "j4");
  EXPECT_EQ(State("j1"), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(Job("j1").reason(), "all 2 elements succeeded");
  EXPECT_EQ(Job("j1").outputs_size(), 2);
  EXPECT_EQ(State("j2"), v1::JOB_STATE_STARTING);
}

TEST_F(ArraysTest, AnElementThatFails_DoesNotStopTheOthersAndFailsTheArray) {
  ASSERT_TRUE(Submit({Sweep(2, 1)}, "w").ok());
  Connect("w1", 1);
  RankOutbox rank{.worker = "w1", .job = "j2"};
  Failed(rank, v1::CAUSE_BAD_INPUT, "no");
  Exited(rank, 1, 0);
  RunToSuccess("w1", "j3");
  EXPECT_EQ(State("j1"), v1::JOB_STATE_FAILED);
  EXPECT_EQ(Job("j1").reason(), "1 of 2 elements failed, 0 were cancelled");
}

TEST_F(ArraysTest, RestartInBetween_MakesEachElementOnce) {
  ASSERT_TRUE(Submit({Sweep(3, 1)}, "w").ok());
  file_work_.Hold();
  Connect("w1", 1);
  EXPECT_EQ(jobs_->Find("j2"), nullptr) << "being completed";
  file_work_.Drop();
  RestartCoordinator();
  Connect("w1", 1);
  EXPECT_EQ(Job("j2").array_index(), 0);
  RunToSuccess("w1", "j2");
  RestartCoordinator();
  Connect("w1", 1, {{"j3", 1}});
  EXPECT_EQ(Job("j3").array_index(), 1);
  RunToSuccess("w1", "j3");
  RunToSuccess("w1", "j4");
  EXPECT_EQ(State("j1"), v1::JOB_STATE_SUCCEEDED);
  EXPECT_EQ(jobs_->Find("j5"), nullptr);
}

TEST_F(ArraysTest, Cancelled_EndsItsElementsAndMakesNoMore) {
  ASSERT_TRUE(Submit({Sweep(9, 2)}, "w").ok());
  Connect("w1", 1);
  ASSERT_TRUE(Cancel("j1").ok());
  EXPECT_EQ(State("j1"), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(State("j2"), v1::JOB_STATE_STOPPING);
  EXPECT_EQ(State("j3"), v1::JOB_STATE_CANCELLED);
  RankOutbox rank{.worker = "w1", .job = "j2"};
  Exited(rank, 0, 15);
  EXPECT_EQ(State("j2"), v1::JOB_STATE_CANCELLED);
  EXPECT_EQ(jobs_->Find("j4"), nullptr);
  EXPECT_EQ(State("j1"), v1::JOB_STATE_CANCELLED);
}

TEST_F(ArraysTest, Held_MakesNoMoreUntilReleased) {
  ASSERT_TRUE(Submit({Sweep(3, 1)}, "w").ok());
  Connect("w1", 1);
  ASSERT_TRUE(Hold("j1").ok());
  RunToSuccess("w1", "j2");
  EXPECT_EQ(jobs_->Find("j3"), nullptr);
  ASSERT_TRUE(Release("j1").ok());
  EXPECT_EQ(State("j3"), v1::JOB_STATE_STARTING);
}

}  // namespace
}  // namespace moe::coordinator
