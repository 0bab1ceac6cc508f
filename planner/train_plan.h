// What a training job needs and how long it takes, before it runs: parameters, arithmetic, memory
// of a rank by part, time of a step. Pure; the figures follow the trainer (worker/training,
// worker/model), and a test holds the two together.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "planner/machine.h"
#include "storage/artefacts/model_config.h"

namespace moe::planner {

struct TrainSetup {
  artefacts::ModelConfig model;
  int64_t steps = 1;
  int64_t sequence_length = 0;
  int64_t global_batch_samples = 0;
  int64_t micro_batch_samples = 0;
  int64_t ranks = 1;
  int64_t expert_parallel = 1;  // one that planner/expert_parallel.h accepts
  bool bf16 = true;             // asked for; a machine without it computes in fp32
  bool keeps_average = false;   // of the weights
};

struct MemoryPart {
  std::string name;
  int64_t bytes = 0;
};

struct BatchChoice {
  int64_t micro_batch_samples = 0;
  int64_t memory_bytes = 0;
  bool fits = false;
};

struct TrainPlan {
  int64_t total_parameters = 0;
  int64_t active_parameters = 0;
  double flops_per_token = 0;  // forward and backward
  std::vector<MemoryPart> memory;
  int64_t memory_bytes = 0;        // the sum
  bool fits = true;                // true as well where the limit is not known
  double step_seconds = 0;         // 0 where the machine's rates are not known
  double micro_batch_seconds = 0;  // of it, forward and backward of one micro-batch
  double tokens_per_second = 0;
  double duration_seconds = 0;
  int64_t sent_bytes_per_step = 0;  // by one rank
  // Of these: rows to other ranks' experts and back, where all experts are used alike.
  int64_t all_to_all_bytes_per_step = 0;
  double link_seconds = 0;           // what that takes; 0 where the link is not known
  double exposed_seconds = 0;        // what of it the step waits for
  std::vector<BatchChoice> choices;  // every micro-batch that divides a rank's share
};

TrainPlan PlanTraining(const TrainSetup& setup, const Machine& machine);

// "needs 12.3 GB a rank (activations 8.1 GB, ...), a slot has 8.0 GB; use micro_batch_samples=1
// (7.2 GB)", or what else would help. Only for a plan that does not fit.
std::string DescribeMisfit(const TrainPlan& plan, const TrainSetup& setup, const Machine& machine);

}  // namespace moe::planner
