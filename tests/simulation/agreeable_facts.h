// What submissions are checked against: every path is good, no artefact is older than the
// simulation, and the queues are those of its cluster.
#pragma once

#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "coordinator/job_spec.h"
#include "coordinator/queues/queue_tree.h"

namespace moe::simulation {

// JobArray.max_running of every array that users submit.
inline constexpr int32_t kMostElementsAtOnce = 2;

// What every queue may use. `limited` is false for a coordinator that does not look.
inline coordinator::QueueTree SimQueues(bool limited) {
  constexpr double kHalfLifeSeconds = 600;
  std::vector<coordinator::QueueRules> rules = {
      {.name = "research", .quota = 2, .limit = 3},
      {.name = "research/llama", .parent = 0, .quota = 1},
      {.name = "research/mistral", .parent = 0, .quota = 1, .limit = 2},
      {.name = "production", .quota = 1, .weight = 2},
  };
  for (coordinator::QueueRules& rule : rules) {
    if (!limited) rule.limit = std::numeric_limits<int64_t>::max();
  }
  return coordinator::QueueTree(std::move(rules), /*default_queue=*/1, kHalfLifeSeconds);
}

class AgreeableFacts final : public coordinator::SpecFacts {
 public:
  absl::StatusOr<coordinator::ModelFacts> ReadModel(const std::string&) const override {
    return coordinator::ModelFacts{
        .vocab_size = 49152, .intermediate_size = 1536, .context_length = 8192, .num_experts = 0};
  }
  bool HoldsModel(const std::string& path) const override { return path.ends_with(".gguf"); }
  absl::Status CheckReadable(const std::string&, bool* is_empty) const override {
    *is_empty = false;
    return absl::OkStatus();
  }
  const v1::Artefact* FindArtefact(const std::string&) const override { return nullptr; }
  const coordinator::QueueTree& queues() const override { return queues_; }

 private:
  const coordinator::QueueTree queues_ = SimQueues(/*limited=*/true);
};

}  // namespace moe::simulation
