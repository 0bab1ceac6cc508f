// A coordinator that answers what a test tells it to, over real gRPC.
#pragma once

#include <grpcpp/grpcpp.h>

#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/synchronization/mutex.h"
#include "moe/v1/artefact_service.grpc.pb.h"
#include "moe/v1/cluster_service.grpc.pb.h"
#include "moe/v1/job_service.grpc.pb.h"

namespace moe::moectl {

inline moe::v1::Job MakeJob(const std::string& id, const std::string& name, moe::v1::JobState state,
                            int64_t revision = 1) {
  moe::v1::Job job;
  job.set_job_id(id);
  job.set_pipeline_id("p1");
  job.mutable_spec()->set_name(name);
  job.mutable_spec()->mutable_train();
  job.set_state(state);
  job.set_revision(revision);
  job.mutable_create_time()->set_seconds(1'700'000'000);
  return job;
}

inline moe::v1::WatchJobsResponse MakeChange(const moe::v1::Job& job,
                                             const std::string& message = "") {
  moe::v1::WatchJobsResponse change;
  *change.mutable_job() = job;
  if (!message.empty()) change.mutable_event()->set_message(message);
  return change;
}

// What one WatchJobs call does: sends the changes, then ends with `end` or, where `hang` is set,
// stays open until the client goes.
struct WatchScript {
  std::vector<moe::v1::WatchJobsResponse> changes;
  grpc::Status end = grpc::Status::OK;
  bool hang = false;
};

struct LogScript {
  std::vector<moe::v1::ReadLogsResponse> pieces;
  grpc::Status end = grpc::Status::OK;
};

// Thread-safe where `mutex` says so; tests fill in the answers before they run a command.
class FakeJobService final : public moe::v1::JobService::Service {
 public:
  std::vector<moe::v1::Job> jobs;
  // Answers of the next calls of any unary method; OK once they are used up.
  std::deque<grpc::Status> failures;
  std::deque<WatchScript> watches;
  std::deque<LogScript> logs;
  std::vector<moe::v1::StepReport> steps;

  std::vector<moe::v1::SubmitPipelineRequest> submitted;
  std::vector<moe::v1::WatchJobsRequest> watched;
  std::vector<moe::v1::ReadLogsRequest> read_logs;
  std::vector<std::string> cancelled;

  moe::v1::EstimatePipelineRequest estimated;
  moe::v1::EstimatePipelineResponse estimates;
  grpc::Status EstimatePipeline(grpc::ServerContext*,
                                const moe::v1::EstimatePipelineRequest* request,
                                moe::v1::EstimatePipelineResponse* response) override {
    estimated = *request;
    *response = estimates;
    return grpc::Status::OK;
  }
  grpc::Status SubmitPipeline(grpc::ServerContext*, const moe::v1::SubmitPipelineRequest* request,
                              moe::v1::SubmitPipelineResponse* response) override {
    absl::MutexLock lock(&mutex_);
    submitted.push_back(*request);
    if (grpc::Status failure = NextFailure(); !failure.ok()) return failure;
    if (!request->validate_only()) response->set_pipeline_id("p1");
    for (const moe::v1::JobSpec& spec : request->jobs()) {
      moe::v1::Job* job = response->add_jobs();
      *job = MakeJob("j" + std::to_string(response->jobs_size()), spec.name(),
                     moe::v1::JOB_STATE_QUEUED);
      *job->mutable_spec() = spec;
    }
    return grpc::Status::OK;
  }

  grpc::Status GetJob(grpc::ServerContext*, const moe::v1::GetJobRequest* request,
                      moe::v1::GetJobResponse* response) override {
    absl::MutexLock lock(&mutex_);
    if (grpc::Status failure = NextFailure(); !failure.ok()) return failure;
    for (const moe::v1::Job& job : jobs) {
      if (job.job_id() != request->job() && job.spec().name() != request->job()) continue;
      *response->mutable_job() = job;
      return grpc::Status::OK;
    }
    return {grpc::StatusCode::NOT_FOUND, "no job '" + request->job() + "'"};
  }

  // Two jobs a page.
  grpc::Status ListJobs(grpc::ServerContext*, const moe::v1::ListJobsRequest* request,
                        moe::v1::ListJobsResponse* response) override {
    absl::MutexLock lock(&mutex_);
    if (grpc::Status failure = NextFailure(); !failure.ok()) return failure;
    size_t index = request->page_token().empty() ? 0 : std::stoul(request->page_token());
    for (; index < jobs.size() && response->jobs_size() < 2; ++index) {
      if (!request->pipeline_id().empty() && jobs[index].pipeline_id() != request->pipeline_id()) {
        continue;
      }
      *response->add_jobs() = jobs[index];
    }
    if (index < jobs.size()) response->set_next_page_token(std::to_string(index));
    return grpc::Status::OK;
  }

  grpc::Status WatchJobs(grpc::ServerContext* context, const moe::v1::WatchJobsRequest* request,
                         grpc::ServerWriter<moe::v1::WatchJobsResponse>* writer) override {
    WatchScript script;
    {
      absl::MutexLock lock(&mutex_);
      watched.push_back(*request);
      if (watches.empty()) return {grpc::StatusCode::INTERNAL, "no script for this watch"};
      script = watches.front();
      watches.pop_front();
    }
    for (const auto& change : script.changes) writer->Write(change);
    while (script.hang && !context->IsCancelled()) absl::SleepFor(absl::Milliseconds(5));
    return script.end;
  }

  grpc::Status ReadLogs(grpc::ServerContext*, const moe::v1::ReadLogsRequest* request,
                        grpc::ServerWriter<moe::v1::ReadLogsResponse>* writer) override {
    LogScript script;
    {
      absl::MutexLock lock(&mutex_);
      read_logs.push_back(*request);
      if (logs.empty()) return {grpc::StatusCode::INTERNAL, "no script for this log"};
      script = logs.front();
      logs.pop_front();
    }
    for (const auto& piece : script.pieces) writer->Write(piece);
    return script.end;
  }

  grpc::Status CancelJob(grpc::ServerContext*, const moe::v1::CancelJobRequest* request,
                         moe::v1::CancelJobResponse* response) override {
    absl::MutexLock lock(&mutex_);
    cancelled.push_back(request->job());
    if (grpc::Status failure = NextFailure(); !failure.ok()) return failure;
    *response->mutable_job() = MakeJob(request->job(), "t", moe::v1::JOB_STATE_CANCELLED);
    return grpc::Status::OK;
  }

  grpc::Status ListEvents(grpc::ServerContext*, const moe::v1::ListEventsRequest*,
                          moe::v1::ListEventsResponse*) override {
    return grpc::Status::OK;
  }

  grpc::Status ListSteps(grpc::ServerContext*, const moe::v1::ListStepsRequest* request,
                         moe::v1::ListStepsResponse* response) override {
    absl::MutexLock lock(&mutex_);
    for (const moe::v1::StepReport& step : steps) {
      if (step.step() <= request->after_step()) continue;
      if (response->steps_size() == request->page_size()) break;
      *response->add_steps() = step;
    }
    return grpc::Status::OK;
  }

 private:
  grpc::Status NextFailure() {
    if (failures.empty()) return grpc::Status::OK;
    const grpc::Status failure = failures.front();
    failures.pop_front();
    return failure;
  }

  absl::Mutex mutex_;
};

class FakeArtefactService final : public moe::v1::ArtefactService::Service {
 public:
  std::vector<moe::v1::Artefact> artefacts;

  grpc::Status GetArtefact(grpc::ServerContext*, const moe::v1::GetArtefactRequest* request,
                           moe::v1::GetArtefactResponse* response) override {
    for (const moe::v1::Artefact& artefact : artefacts) {
      const std::string name = artefact.name() + ":" + std::to_string(artefact.version());
      if (name != request->artefact()) continue;
      *response->mutable_artefact() = artefact;
      return grpc::Status::OK;
    }
    return {grpc::StatusCode::NOT_FOUND, "no artefact '" + request->artefact() + "'"};
  }
};

class FakeCoordinator {
 public:
  FakeCoordinator() {
    grpc::ServerBuilder builder;
    builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port_);
    builder.RegisterService(&jobs);
    builder.RegisterService(&artefacts);
    server_ = builder.BuildAndStart();
  }
  ~FakeCoordinator() { server_->Shutdown(std::chrono::system_clock::now()); }

  std::string endpoint() const { return "127.0.0.1:" + std::to_string(port_); }

  FakeJobService jobs;
  FakeArtefactService artefacts;

 private:
  int port_ = 0;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace moe::moectl
