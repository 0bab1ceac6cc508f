#include "coordinator/queues/queue_tree.h"

#include <utility>

#include "common/check.h"
#include "common/status.h"

namespace moe::coordinator {
namespace {

constexpr double kHalfLifeSeconds = 7 * 86400.0;

}  // namespace

QueueTree::QueueTree() : QueueTree({QueueRules{.name = "default"}}, 0, kHalfLifeSeconds) {}

QueueTree::QueueTree(std::vector<QueueRules> rules, int32_t default_queue, double half_life_seconds)
    : rules_(std::move(rules)),
      default_queue_(default_queue),
      half_life_seconds_(half_life_seconds),
      takes_jobs_(rules_.size(), 1) {
  for (size_t i = 0; i < rules_.size(); ++i) {
    by_name_[rules_[i].name] = static_cast<int32_t>(i);
    const int32_t parent = rules_[i].parent;
    MOE_CHECK(parent < static_cast<int32_t>(i));
    if (parent >= 0) takes_jobs_[static_cast<size_t>(parent)] = 0;
  }
  MOE_CHECK(TakesJobs(default_queue_));
}

absl::Status QueueTree::TakeNumbersOf(const QueueTree& other) {
  constexpr char kRestart[] = "restart the coordinator, which keeps all jobs";
  for (const QueueRules& rule : rules_) {
    if (other.Find(rule.name) < 0) {
      return FailedPrecondition("queue '{}' is gone; to remove queues, {}", rule.name, kRestart);
    }
  }
  for (const QueueRules& rule : other.rules_) {
    if (Find(rule.name) < 0) {
      return FailedPrecondition("queue '{}' is new; to add queues, {}", rule.name, kRestart);
    }
  }
  if (default_name() != other.default_name()) {
    return FailedPrecondition("default='{}' was '{}'; to change it, {}", other.default_name(),
                              default_name(), kRestart);
  }
  if (half_life_seconds_ != other.half_life_seconds_) {
    return FailedPrecondition("half_life_hours={} was {}; to change it, {}",
                              other.half_life_seconds_ / 3600, half_life_seconds_ / 3600, kRestart);
  }
  for (QueueRules& rule : rules_) {
    const QueueRules& now = other.rules(other.Find(rule.name));
    rule.quota = now.quota;
    rule.limit = now.limit;
    rule.lends = now.lends;
    rule.weight = now.weight;
  }
  return absl::OkStatus();
}

int32_t QueueTree::Find(const std::string& name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? -1 : it->second;
}

int32_t QueueTree::QueueOf(const std::string& name) const {
  const int32_t queue = Find(name);
  return queue >= 0 && TakesJobs(queue) ? queue : default_queue_;
}

std::vector<std::string> QueueTree::JobQueueNames() const {
  std::vector<std::string> names;
  for (size_t i = 0; i < rules_.size(); ++i) {
    if (TakesJobs(static_cast<int32_t>(i))) names.push_back(rules_[i].name);
  }
  return names;
}

bool QueueTree::IsWithin(int32_t queue, int32_t above) const {
  while (queue >= 0 && queue != above) queue = rules(queue).parent;
  return queue == above;
}

}  // namespace moe::coordinator
