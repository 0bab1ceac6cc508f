// The queues of a cluster: which there are, what each may use, and which one a job counts for.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "coordinator/scheduler/snapshot.h"

namespace moe::coordinator {

// Which queues there are never changes, for who uses what is counted by them.
class QueueTree {
 public:
  // One queue, "default", that shares nothing: for a coordinator that was given no queue file.
  QueueTree();
  // `rules` have full names ("research/llama"), each after its parent. `default_queue` takes jobs.
  QueueTree(std::vector<QueueRules> rules, int32_t default_queue, double half_life_seconds);

  // Takes quotas, limits, what is lent and weights from a tree of the same queues, with the same
  // default and half-life; else changes nothing: FAILED_PRECONDITION names what differs.
  absl::Status TakeNumbersOf(const QueueTree& other);

  // Each after the one above it.
  const std::vector<QueueRules>& rules() const { return rules_; }
  const QueueRules& rules(int32_t queue) const { return rules_[static_cast<size_t>(queue)]; }
  // -1 where there is none.
  int32_t Find(const std::string& name) const;
  // Where a job of this queue counts: there, or, for a job that outlived its queue, in the default
  // one.
  int32_t QueueOf(const std::string& name) const;
  // Jobs belong to queues that have none below them.
  bool TakesJobs(int32_t queue) const { return takes_jobs_[static_cast<size_t>(queue)] != 0; }
  const std::string& default_name() const { return rules(default_queue_).name; }
  // "default", or every name that a job may use.
  std::vector<std::string> JobQueueNames() const;
  // Whether `queue` is `above` or below it.
  bool IsWithin(int32_t queue, int32_t above) const;
  // After this long, what a queue has used counts half.
  double half_life_seconds() const { return half_life_seconds_; }

 private:
  std::vector<QueueRules> rules_;
  int32_t default_queue_ = 0;
  double half_life_seconds_;
  std::vector<char> takes_jobs_;
  std::map<std::string, int32_t> by_name_;
};

}  // namespace moe::coordinator
