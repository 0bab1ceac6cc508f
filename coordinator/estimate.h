// Between the wire and the planner: what train jobs need on the slots that there are.
#pragma once

#include <cstdint>
#include <optional>

#include "coordinator/job_spec.h"
#include "coordinator/worker_registry.h"
#include "moe/v1/estimate.pb.h"
#include "planner/machine.h"
#include "planner/train_plan.h"

namespace moe::coordinator {

// The slot with the most memory among workers that are READY, measured ones first; nullopt where
// there is none.
std::optional<planner::Machine> LargestSlot(const WorkerRegistry& workers,
                                            int64_t monotonic_millis);

// A complete train job.
planner::TrainSetup SetupOf(const v1::JobSpec& spec, const artefacts::ModelConfig& model);

v1::TrainEstimate Estimate(const v1::JobSpec& spec, const artefacts::ModelConfig& model,
                           const planner::Machine& machine);

}  // namespace moe::coordinator
