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

  struct Plan {
    int pipelines = 0;  // to submit
    int wishes = 0;     // to have something done to their jobs
    int drains = 0;     // of workers, or their end
    std::vector<std::string> workers = {};
  };
  // Does all of that within so long.
  void Begin(Plan plan, int64_t within_ms);
  // Lets go of everything that is held back.
  void ReleaseAll();
  bool all_answered() const { return unanswered_.empty(); }

 private:
  void Submit(const std::string& request_id);
  void Complete(const v1::SubmitPipelineRequest& request);
  void Answer(const v1::SubmitPipelineRequest& request, const v1::SubmitPipelineResponse& response);
  void WishSomething();
  void DrainOrUndrain();
  void Undrain(const std::string& worker);
  void StopJobsOn(coordinator::Turn& turn, const SimCoordinator::Core& core,
                  const std::string& worker);
  // Hands the change in; `answered` hears of its result, unless the answer is lost.
  void Ask(const std::string& method, const std::string& job,
           const std::function<absl::Status(coordinator::Turn&, v1::JobRecord&,
                                            const SimCoordinator::Core&)>& wish,
           const std::function<void()>& answered);
  // Writes a change, or its refusal, into the audit journal.
  void Record(coordinator::Turn& turn, const SimCoordinator::Core& core, const std::string& method,
              const std::string& target, const absl::Status& status);

  World* const world_;
  SimCoordinator* const coordinator_;
  Promises* const promises_;
  std::map<std::string, v1::SubmitPipelineRequest> unanswered_;
  std::vector<std::string> workers_;
  int submitted_ = 0;
};

}  // namespace moe::simulation
