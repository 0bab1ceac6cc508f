// People: they submit pipelines until somebody answers, change their minds, and watch.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "coordinator/job_spec.h"
#include "moe/v1/job_service.pb.h"
#include "tests/simulation/promises.h"
#include "tests/simulation/sim_coordinator.h"
#include "tests/simulation/world.h"

namespace moe::simulation {

class Users {
 public:
  Users(World* world, SimCoordinator* coordinator, Promises* promises);

  // Submits `pipelines`, and does `wishes` things to their jobs, within so long.
  void Begin(int pipelines, int wishes, int64_t within_ms);
  // Lets go of everything that is held back.
  void ReleaseAll();
  bool all_answered() const { return unanswered_.empty(); }

 private:
  void Submit(const std::string& request_id);
  void Complete(const v1::SubmitPipelineRequest& request);
  void Answer(const v1::SubmitPipelineRequest& request, const v1::SubmitPipelineResponse& response);
  void WishSomething();
  // Hands the change in; `answered` hears of its result, unless the answer is lost.
  void Ask(const std::string& job,
           const std::function<absl::Status(coordinator::Turn&, v1::JobRecord&,
                                            const SimCoordinator::Core&)>& wish,
           const std::function<void()>& answered);

  World* const world_;
  SimCoordinator* const coordinator_;
  Promises* const promises_;
  std::map<std::string, v1::SubmitPipelineRequest> unanswered_;
  int submitted_ = 0;
};

}  // namespace moe::simulation
