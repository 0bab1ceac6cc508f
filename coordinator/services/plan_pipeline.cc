#include "coordinator/services/plan_pipeline.h"

#include <utility>

#include "coordinator/files_facts.h"
#include "coordinator/services/look_up.h"

namespace moe::coordinator {

void PlanPipeline(const Core& core, const v1::PlanPipelineRequest& request, const std::string& user,
                  v1::PlanPipelineResponse* response, const Finish& finish) {
  // As a submission goes: looked up on the loop, validated on the file thread, decided on the loop.
  core.queue->Read([&core, &request, user, response, finish] {
    core.file_work->Post([&core, &request, user, response, finish,
                          facts = FilesFacts(LookUp(core, request.jobs()))] {
      auto jobs = CompletePipeline({request.jobs().begin(), request.jobs().end()}, facts);
      if (!jobs.ok()) return finish(jobs.status());
      core.queue->Read([&core, user, response, finish, jobs = *std::move(jobs)] {
        *response = core.supervisor->outlook().Plan(
            jobs, user, {core.clock->UnixMillis(), core.clock->MonotonicMillis()});
        finish(absl::OkStatus());
      });
    });
  });
}

}  // namespace moe::coordinator
