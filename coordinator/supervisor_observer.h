#pragma once

#include "moe/v1/artefact.pb.h"
#include "moe/v1/job.pb.h"
#include "moe/v1/worker_service.pb.h"

namespace moe::coordinator {

// What is worth counting; called on the loop's thread.
class SupervisorObserver {
 public:
  virtual ~SupervisorObserver() = default;
  virtual void OnSchedulePass(double seconds) {}
  virtual void OnPlaced(const v1::Job& job, double queue_wait_seconds) {}
  virtual void OnStep(const v1::Job& job, const v1::StepReport& step) {}
  virtual void OnReplayMismatch(const v1::Job& job) {}
  virtual void OnWarning(const v1::Job& job, const v1::TrainWarning& warning) {}
  // The newest decision of the job's sampler; again after each registration of its worker.
  virtual void OnDecision(const v1::Job& job, const v1::SamplerDecision& decision) {}
  virtual void OnArtefact(const v1::Job& job, const v1::Artefact& artefact,
                          const v1::ArtefactWritten& written) {}
  virtual void OnCheckpointFailed(const v1::Job& job) {}
  virtual void OnStaleMessage() {}
};

}  // namespace moe::coordinator
