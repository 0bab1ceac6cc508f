#include "coordinator/spec/job_wide.h"

#include <algorithm>
#include <cstdint>
#include <string>

#include "coordinator/job_array.h"

namespace moe::coordinator {
namespace {

constexpr int kMaxLabels = 32;
constexpr size_t kMaxLabelValue = 255;
constexpr int32_t kMaxPriority = 1000;
constexpr int32_t kMaxSlots = 4096;
constexpr int32_t kMaxRetries = 1000;
constexpr int64_t kMaxTimeLimitSeconds = int64_t{400} * 86400;
constexpr double kMaxMemoryGib = 1 << 20;

void SetDefaultOutput(v1::JobSpec& spec) {
  const auto fill = [&](auto& kind) {
    if (kind.output().empty()) kind.set_output(spec.name());
  };
  switch (spec.kind_case()) {
    case v1::JobSpec::kPrepare:
      return fill(*spec.mutable_prepare());
    case v1::JobSpec::kConstruct:
      return fill(*spec.mutable_construct());
    case v1::JobSpec::kTrain:
      return fill(*spec.mutable_train());
    case v1::JobSpec::kFinetune:
      return fill(*spec.mutable_finetune());
    case v1::JobSpec::kEvaluate:
      return fill(*spec.mutable_evaluate());
    case v1::JobSpec::kExport:
      return fill(*spec.mutable_export_());
    case v1::JobSpec::KIND_NOT_SET:
      return;
  }
}

void CheckLabels(Checker& check, const v1::JobSpec& spec) {
  if (spec.labels_size() > kMaxLabels) {
    check.Fail("has {} labels; the limit is {}", spec.labels_size(), kMaxLabels);
  }
  for (const auto& [key, value] : spec.labels()) {
    if (key.empty() || key.size() > kMaxNameLength || value.size() > kMaxLabelValue) {
      check.Fail("labels.{} is too long or empty; use keys of 1 to {} and values of up to {} bytes",
                 key, kMaxNameLength, kMaxLabelValue);
    }
    // `moectl job list --label KEY=VALUE` must be able to name it.
    if (key.find('=') != std::string::npos) {
      check.Fail("labels.{}: a key has no '='; use another name", key);
    }
  }
}

void CheckResources(Checker& check, v1::JobSpec& spec) {
  v1::Resources& resources = *spec.mutable_resources();
  if (resources.slots() == 0) resources.set_slots(1);
  if (!resources.has_preemptible()) resources.set_preemptible(true);
  check.Range<int32_t>("resources.slots", resources.slots(), 1, kMaxSlots);
  check.Range<double>("resources.memory_gib", resources.memory_gib(), 0, kMaxMemoryGib);
  if (TrainSettings(spec) == nullptr && resources.slots() > 1) {
    check.Fail("resources.slots={} but only train and finetune jobs run on more than one; use 1",
               resources.slots());
  }
}

void CheckQueue(Checker& check, const QueueTree& queues, v1::JobSpec& spec) {
  if (spec.queue().empty()) spec.set_queue(queues.default_name());
  const std::vector<std::string> names = queues.JobQueueNames();
  const int32_t queue = queues.Find(spec.queue());
  if (queue < 0) return check.OneOf("queue", spec.queue(), names);
  if (!queues.TakesJobs(queue)) {
    std::vector<std::string> below;
    for (const std::string& name : names) {
      if (queues.IsWithin(queues.Find(name), queue)) below.push_back(name);
    }
    return check.Fail("queue='{}' has queues below it and takes no jobs itself; use {}",
                      spec.queue(), fmt::join(below, ", "));
  }
  // Nothing but the end of other jobs frees slots for it, and that is not enough.
  for (int32_t q = queue; q >= 0; q = queues.rules(q).parent) {
    if (spec.resources().slots() > queues.rules(q).limit) {
      check.Fail("resources.slots={} is above the limit {} of queue '{}'; use {} or less",
                 spec.resources().slots(), queues.rules(q).limit, queues.rules(q).name,
                 queues.rules(q).limit);
    }
  }
}

void CheckTimeLimit(Checker& check, const v1::JobSpec& spec) {
  check.Range<int64_t>("time_limit_seconds", spec.time_limit_seconds(), 0, kMaxTimeLimitSeconds);
  if (!spec.has_time_limit_notice_seconds()) return;
  if (spec.time_limit_seconds() == 0) {
    check.Fail("time_limit_notice_seconds={} without a time limit; give time_limit_seconds",
               spec.time_limit_notice_seconds());
  }
  check.Range<int64_t>("time_limit_notice_seconds", spec.time_limit_notice_seconds(), 0,
                       spec.time_limit_seconds() / 2);
}

}  // namespace

void CheckJobWide(Checker& check, const SpecFacts& facts, v1::JobSpec& spec) {
  check.Name("name", spec.name());
  check.Range<int32_t>("priority", spec.priority(), -kMaxPriority, kMaxPriority);
  if (spec.kind_case() == v1::JobSpec::KIND_NOT_SET) {
    return check.Fail(
        "has no kind; give one of prepare, construct, train, finetune, evaluate, export");
  }
  if (spec.has_array()) {
    if (const absl::Status status = CompleteArray(&spec); !status.ok()) {
      return check.Fail("{}", Message(status));
    }
  }
  CheckLabels(check, spec);
  CheckResources(check, spec);
  CheckQueue(check, facts.queues(), spec);
  CheckTimeLimit(check, spec);
  if (!spec.has_max_infrastructure_retries()) spec.set_max_infrastructure_retries(10);
  check.Range<int32_t>("max_infrastructure_retries", spec.max_infrastructure_retries(), 0,
                       kMaxRetries);
  check.Range<int32_t>("max_user_retries", spec.max_user_retries(), 0, kMaxRetries);
  check.Range<int32_t>("max_preemptions", spec.max_preemptions(), 0, kMaxRetries);
  SetDefaultOutput(spec);
  check.Name("output", OutputName(spec));
}

}  // namespace moe::coordinator
