#include "coordinator/services/estimate_pipeline.h"

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/status.h"
#include "coordinator/estimate.h"
#include "coordinator/files_facts.h"
#include "coordinator/services/look_up.h"

namespace moe::coordinator {
namespace {

// On the file thread: models are looked at.
absl::Status Fill(const v1::EstimatePipelineRequest& request, const FilesFacts::Known& known,
                  const planner::Machine& machine, v1::EstimatePipelineResponse* response) {
  // Without a slot to fit into: a job that is too large is what one wants to see here.
  const FilesFacts facts(known);
  MOE_ASSIGN_OR_RETURN(const std::vector<CompleteJob> jobs,
                       CompletePipeline({request.jobs().begin(), request.jobs().end()}, facts));
  for (const CompleteJob& job : jobs) {
    if (TrainSettings(job.spec) == nullptr || !job.model_shape.has_value()) continue;
    *response->add_estimates() = Estimate(job.spec, *job.model_shape, machine);
  }
  return absl::OkStatus();
}

}  // namespace

void EstimatePipeline(const Core& core, const v1::EstimatePipelineRequest& request,
                      v1::EstimatePipelineResponse* response, const Finish& finish) {
  std::optional<planner::Machine> named;
  if (!request.machine().empty()) {
    named = planner::NamedMachine(request.machine());
    if (!named.has_value()) {
      return finish(InvalidArgument("machine='{}' is not known; use {}, or none for this cluster",
                                    request.machine(), fmt::join(planner::MachineNames(), ", ")));
    }
  }
  core.queue->Read([&core, &request, response, finish, named] {
    const int64_t now = core.clock->MonotonicMillis();
    const planner::Machine machine = named.value_or(
        LargestSlot(*core.workers, now)
            .value_or(planner::Machine{.name = "no machine: no worker is connected"}));
    core.file_work->Post(
        [&request, response, finish, machine, known = LookUp(core, request.jobs())] {
          finish(Fill(request, known, machine, response));
        });
  });
}

}  // namespace moe::coordinator
