// The coordinator's core without threads, network or time of its own: every change is committed
// when it is made, the clock stands until it is told, workers are scripts.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <deque>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "common/clock.h"
#include "common/file.h"
#include "common/status.h"
#include "coordinator/artefact_files.h"
#include "coordinator/catalog.h"
#include "coordinator/job_spec.h"
#include "coordinator/job_table.h"
#include "coordinator/supervisor.h"
#include "coordinator/worker_registry.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

// Both clocks stand still until told otherwise; they need not move together, as real ones do not.
class TwoClocks final : public Clock {
 public:
  int64_t UnixMillis() const override { return unix_millis; }
  int64_t MonotonicMillis() const override { return monotonic_millis; }
  void Advance(int64_t millis) {
    unix_millis += millis;
    monotonic_millis += millis;
  }
  int64_t unix_millis = 1'700'000'000'000;
  int64_t monotonic_millis = 0;
};

// Runs what is handed in at once; what is handed in meanwhile, right after.
class InlineQueue final : public TurnQueue {
 public:
  InlineQueue(storage::Store* store, const Clock* clock, std::function<void(Turn&)> before_commit)
      : store_(store), clock_(clock), before_commit_(std::move(before_commit)) {}

  void Change(std::function<void(Turn&)> change) override {
    tasks_.push_back(std::move(change));
    if (running_) return;
    running_ = true;
    while (!tasks_.empty()) {
      auto task = std::move(tasks_.front());
      tasks_.pop_front();
      Turn turn;
      turn.unix_millis = clock_->UnixMillis();
      turn.monotonic_millis = clock_->MonotonicMillis();
      task(turn);
      before_commit_(turn);
      ++commits_;
      ASSERT_TRUE(store_->Commit(turn.batch).ok());
      for (auto& tell : turn.after_commit) tell();
    }
    running_ = false;
  }
  void Read(std::function<void()> read) override { read(); }

 private:
  storage::Store* const store_;
  const Clock* const clock_;
  const std::function<void(Turn&)> before_commit_;
  std::deque<std::function<void(Turn&)>> tasks_;
  bool running_ = false;
  int commits_ = 0;
};

class InlineFileWork final : public FileWork {
 public:
  void Post(std::function<void()> work) override {
    if (held_) {
      waiting_.push_back(std::move(work));
    } else {
      work();
    }
  }
  // From now on work waits until Release, as if the disk were slow.
  void Hold() { held_ = true; }
  // What waits is lost, as with the process.
  void Drop() {
    held_ = false;
    waiting_.clear();
  }
  void Release() {
    held_ = false;
    for (auto& work : std::exchange(waiting_, {})) work();
  }

 private:
  bool held_ = false;
  std::vector<std::function<void()>> waiting_;
};

class FakeFiles final : public ArtefactFiles {
 public:
  absl::Status Check(const v1::ArtefactWritten& written) const override {
    const auto it = bad_.find(written.path());
    return it == bad_.end() ? absl::OkStatus() : it->second;
  }
  absl::StatusOr<std::vector<std::string>> List(const std::string& folder) const override {
    if (!FileExists(folder)) return std::vector<std::string>();
    return ListDirectory(folder);
  }
  void Remove(const std::string& folder) const override { removed_.push_back(folder); }
  void RemoveOthers(const std::string& attempt_dir,
                    const std::set<std::string>& keep) const override {
    tidied_[attempt_dir] = keep;
  }

  std::map<std::string, absl::Status> bad_;
  mutable std::vector<std::string> removed_;
  mutable std::map<std::string, std::set<std::string>> tidied_;
};

class CountingObserver final : public SupervisorObserver {
 public:
  void OnReplayMismatch(const v1::Job&) override { ++replay_mismatches; }
  void OnCheckpointFailed(const v1::Job&) override { ++checkpoint_failures; }
  void OnStaleMessage() override { ++stale_messages; }
  void OnSchedulePass(double) override { ++schedule_passes; }
  int replay_mismatches = 0;
  int checkpoint_failures = 0;
  int stale_messages = 0;
  int schedule_passes = 0;
};

// Says that every path is good and no artefact is in the catalogue.
class AgreeableFacts final : public SpecFacts {
 public:
  AgreeableFacts() = default;
  AgreeableFacts(const QueueTree* queues, JobTable* jobs) : queues_(queues), jobs_(jobs) {}
  const QueueTree& queues() const override {
    return queues_ == nullptr ? SpecFacts::queues() : *queues_;
  }
  bool HasJob(const std::string& job_id) const override {
    return jobs_ != nullptr && jobs_->Find(job_id) != nullptr;
  }
  bool HoldsModel(const std::string& path) const override { return path.ends_with(".gguf"); }
  absl::StatusOr<ModelFacts> ReadModel(const std::string&) const override {
    return ModelFacts{
        .vocab_size = 49152, .intermediate_size = 1536, .context_length = 8192, .num_experts = 0};
  }
  absl::Status CheckReadable(const std::string&, bool* is_empty) const override {
    *is_empty = false;
    return absl::OkStatus();
  }
  const v1::Artefact* FindArtefact(const std::string&) const override { return nullptr; }

 private:
  const QueueTree* queues_ = nullptr;
  JobTable* jobs_ = nullptr;
};

inline v1::JobSpec PrepareJob(const std::string& name) {
  v1::JobSpec spec;
  spec.set_name(name);
  spec.mutable_prepare()->mutable_tokenizer()->set_path("/models/m.gguf");
  v1::DomainInput& domain = *spec.mutable_prepare()->add_domains();
  domain.set_name("wikipedia");
  domain.add_paths("/text");
  return spec;
}

inline v1::JobSpec ConstructJob(const std::string& name) {
  v1::JobSpec spec;
  spec.set_name(name);
  spec.mutable_construct()->mutable_model()->set_path("/models/m.gguf");
  spec.mutable_construct()->set_method("independent-random");
  return spec;
}

inline v1::JobSpec TrainJob(const std::string& name, const std::string& model,
                            const std::string& dataset) {
  v1::JobSpec spec;
  spec.set_name(name);
  v1::TrainSpec& train = *spec.mutable_train();
  train.mutable_model()->set_artefact(model);
  train.mutable_dataset()->set_artefact(dataset);
  train.set_steps(40);
  train.set_sequence_length(512);
  return spec;
}

class CoreFixture : public ::testing::Test {
 protected:
  // A worker's stream: what the coordinator sent, and whether it ended it.
  class FakeSession final : public WorkerSession {
   public:
    void Send(const v1::SessionResponse& message) override { sent.push_back(message); }
    void End(const absl::Status& status) override { ended = status; }
    std::vector<v1::SessionResponse> sent;
    std::optional<absl::Status> ended;
  };

  CoreFixture() {
    folder_ = std::filesystem::temp_directory_path() /
              fmt::format("moe-core-{}-{}", ::getpid(),
                          ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    OpenCore();
  }
  ~CoreFixture() override {
    CloseCore();
    std::filesystem::remove_all(folder_);
  }

  void OpenCore() {
    auto store = storage::Store::Open({.path = folder_ / "store"});
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = *std::move(store);
    jobs_ = std::make_unique<JobTable>(store_.get());
    catalog_ = std::make_unique<Catalog>(store_.get());
    workers_ = std::make_unique<WorkerRegistry>(WorkerRegistry::Options{
        .lease_ttl_ms = 30000, .lease_margin_ms = 6000, .heartbeat_interval_ms = 5000});
    queue_ = std::make_unique<InlineQueue>(store_.get(), &clock_,
                                           [this](Turn& turn) { supervisor_->BeforeCommit(turn); });
    sampler_ = std::make_unique<DomainSampler>(store_.get(), jobs_.get());
    supervisor_ = std::make_unique<Supervisor>(
        Supervisor::Options{.artefact_root = folder_ / "artefacts"},
        Supervisor::Parts{.store = store_.get(),
                          .jobs = jobs_.get(),
                          .catalog = catalog_.get(),
                          .sampler = sampler_.get(),
                          .workers = workers_.get(),
                          .files = &files_,
                          .file_work = &file_work_,
                          .queue = queue_.get(),
                          .observer = &observer_,
                          .queue_tree = &queue_tree_,
                          .look_up = [this](const auto&) {
                            return std::make_shared<AgreeableFacts>(&queue_tree_, jobs_.get());
                          }});
    ASSERT_TRUE(workers_->Load(*store_).ok());
    ASSERT_TRUE(jobs_->Load().ok());
    ASSERT_TRUE(catalog_->Load().ok());
    ASSERT_TRUE(sampler_->Load().ok());
    ASSERT_TRUE(supervisor_->Load(clock_.UnixMillis(), clock_.MonotonicMillis()).ok());
  }

  void CloseCore() {
    sessions_.clear();
    supervisor_.reset();
    sampler_.reset();
    queue_.reset();
    workers_.reset();
    catalog_.reset();
    jobs_.reset();
    store_.reset();
  }

  // What is durable is all that remains: every acknowledged change was committed before it was
  // acknowledged, and nothing is written at the end.
  void RestartCoordinator() {
    CloseCore();
    OpenCore();
  }

  // --- clients

  absl::StatusOr<v1::SubmitPipelineResponse> Submit(const std::vector<v1::JobSpec>& jobs,
                                                    const std::string& request_id) {
    v1::SubmitPipelineRequest request;
    request.set_request_id(request_id);
    for (const v1::JobSpec& job : jobs) *request.add_jobs() = job;
    absl::StatusOr<v1::SubmitPipelineResponse> answer;
    queue_->Change([&](Turn& turn) {
      const auto known = jobs_->FindSubmission(request);
      if (!known.ok()) {
        answer = known.status();
        return;
      }
      if (known->has_value()) {
        answer = **known;
        return;
      }
      const auto complete = CompletePipeline(jobs, AgreeableFacts(&queue_tree_, jobs_.get()));
      if (!complete.ok()) {
        answer = complete.status();
        return;
      }
      answer = jobs_->Submit(turn, request, *complete, "someone");
      supervisor_->Wake();
    });
    return answer;
  }
  template <typename Wish>
  absl::Status Apply(const std::string& job, Wish wish) {
    absl::Status status;
    queue_->Change([&](Turn& turn) { status = wish(turn, **jobs_->FindByIdOrName(job)); });
    return status;
  }
  absl::Status Cancel(const std::string& job) {
    return Apply(job, [&](Turn& turn, v1::JobRecord& record) {
      return supervisor_->Cancel(turn, record, "enough");
    });
  }
  absl::Status Preempt(const std::string& job) {
    return Apply(job, [&](Turn& turn, v1::JobRecord& record) {
      return supervisor_->Preempt(turn, record, "");
    });
  }
  absl::Status Hold(const std::string& job) {
    return Apply(job, [&](Turn& turn, v1::JobRecord& record) {
      return supervisor_->Hold(turn, record, "");
    });
  }
  absl::Status Release(const std::string& job) {
    return Apply(
        job, [&](Turn& turn, v1::JobRecord& record) { return supervisor_->Release(turn, record); });
  }
  v1::Job Job(const std::string& id) { return jobs_->Find(id)->job(); }
  v1::JobState State(const std::string& id) { return Job(id).state(); }

  // --- time

  ScheduleView::Now Now() const { return {clock_.UnixMillis(), clock_.MonotonicMillis()}; }
  void Advance(int64_t millis) {
    clock_.Advance(millis);
    queue_->Change([](Turn&) {});
  }

  // --- workers

  // Connects, or connects again, naming the attempts whose folders the worker has.
  void Connect(const std::string& worker, int slots,
               const std::vector<std::pair<std::string, int>>& attempts = {}) {
    v1::Register hello;
    hello.set_worker_id(worker);
    hello.set_protocol_version(1);
    hello.set_host("localhost");
    for (int i = 0; i < slots; ++i) hello.add_slots()->set_index(i);
    for (const auto& [job, attempt] : attempts) {
      v1::AttemptRef& ref = *hello.add_attempts();
      ref.set_job_id(job);
      ref.set_attempt(attempt);
    }
    sessions_[worker] = std::make_shared<FakeSession>();
    queue_->Change([&](Turn& turn) {
      ASSERT_TRUE(supervisor_->OnRegister(turn, hello, sessions_[worker]).ok());
    });
  }
  void Disconnect(const std::string& worker) {
    workers_->SessionClosed(worker, sessions_[worker].get());
  }
  void Heartbeat(const std::string& worker) {
    v1::Heartbeat heartbeat;
    heartbeat.set_seq(1);
    queue_->Change([&](Turn& turn) { supervisor_->OnHeartbeat(turn, worker, heartbeat); });
  }

  // A rank's outbox: reports are numbered and sent as the worker would.
  struct RankOutbox {
    std::string worker;
    std::string job;
    int attempt = 1;
    int rank = 0;
    std::vector<v1::RankReport> reports = {};
  };

  v1::AttemptRef RefOf(const RankOutbox& outbox) {
    v1::AttemptRef ref;
    ref.set_job_id(outbox.job);
    ref.set_attempt(outbox.attempt);
    return ref;
  }
  // Sends reports from number `from` (1 is the first) on.
  absl::Status Resend(const RankOutbox& outbox, int64_t from) {
    v1::ReportBatch batch;
    *batch.mutable_attempt() = RefOf(outbox);
    batch.set_rank(outbox.rank);
    for (size_t i = static_cast<size_t>(from - 1); i < outbox.reports.size(); ++i) {
      *batch.add_reports() = outbox.reports[i];
    }
    absl::Status status;
    queue_->Change(
        [&](Turn& turn) { status = supervisor_->OnReports(turn, outbox.worker, batch); });
    return status;
  }
  void Report(RankOutbox& outbox, v1::RankReport report) {
    report.set_seq(static_cast<int64_t>(outbox.reports.size()) + 1);
    outbox.reports.push_back(std::move(report));
    ASSERT_TRUE(Resend(outbox, static_cast<int64_t>(outbox.reports.size())).ok());
  }
  void Started(RankOutbox& outbox) {
    v1::RankReport report;
    report.mutable_started()->set_device("cpu");
    Report(outbox, report);
  }
  void Step(RankOutbox& outbox, int64_t step, double loss) {
    v1::RankReport report;
    report.mutable_step()->set_step(step);
    report.mutable_step()->set_loss(loss);
    Report(outbox, report);
  }
  void Finished(RankOutbox& outbox) {
    v1::RankReport report;
    report.mutable_finished()->set_summary("done");
    Report(outbox, report);
  }
  void Failed(RankOutbox& outbox, v1::Cause cause, const std::string& error) {
    v1::RankReport report;
    report.mutable_failed()->set_cause(cause);
    report.mutable_failed()->set_error(error);
    Report(outbox, report);
  }
  // Reports the job's output in `subfolder` of the attempt's folder; returns the full path.
  std::string Artefact(RankOutbox& outbox, const std::string& subfolder, int64_t step) {
    const v1::JobSpec spec = Job(outbox.job).spec();
    std::string path = folder_ / "artefacts" / KindName(OutputKind(spec)) /
                       fmt::format("{}.{}", outbox.job, outbox.attempt);
    if (!subfolder.empty()) path += "/" + subfolder;
    v1::RankReport report;
    v1::ArtefactWritten& written = *report.mutable_artefact();
    written.set_name(OutputName(spec));
    written.set_kind(OutputKind(spec));
    written.set_path(path);
    written.set_manifest_crc32c(7);
    written.set_step(step);
    Report(outbox, report);
    return path;
  }
  void Exited(const RankOutbox& outbox, int exit_code, int signal) {
    v1::RankExited exited;
    *exited.mutable_attempt() = RefOf(outbox);
    exited.set_rank(outbox.rank);
    exited.set_exit_code(exit_code);
    exited.set_signal(signal);
    queue_->Change([&](Turn& turn) { supervisor_->OnRankExited(turn, outbox.worker, exited); });
  }
  absl::Status Log(const RankOutbox& outbox, int64_t offset, const std::string& bytes) {
    v1::LogChunk chunk;
    *chunk.mutable_attempt() = RefOf(outbox);
    chunk.set_rank(outbox.rank);
    chunk.set_offset(offset);
    chunk.set_data(bytes);
    absl::Status status;
    queue_->Change([&](Turn& turn) { status = supervisor_->OnLog(turn, outbox.worker, chunk); });
    return status;
  }
  // One job of one rank, from start to finish with its output committed.
  void RunToSuccess(const std::string& worker, const std::string& job) {
    RankOutbox rank{.worker = worker, .job = job, .attempt = Job(job).attempt()};
    Started(rank);
    Artefact(rank, "", 0);
    Finished(rank);
    Exited(rank, 0, 0);
  }

  // Messages of a kind that the worker got, newest last.
  std::vector<v1::SessionResponse> Sent(const std::string& worker,
                                        v1::SessionResponse::MessageCase kind) {
    std::vector<v1::SessionResponse> messages;
    for (const v1::SessionResponse& message : sessions_.at(worker)->sent) {
      if (message.message_case() == kind) messages.push_back(message);
    }
    return messages;
  }

  std::filesystem::path folder_;
  TwoClocks clock_;
  FakeFiles files_;
  InlineFileWork file_work_;
  CountingObserver observer_;
  QueueTree queue_tree_;  // what a test sets before it opens the core again
  std::unique_ptr<storage::Store> store_;
  std::unique_ptr<JobTable> jobs_;
  std::unique_ptr<Catalog> catalog_;
  std::unique_ptr<WorkerRegistry> workers_;
  std::unique_ptr<InlineQueue> queue_;
  std::unique_ptr<DomainSampler> sampler_;
  std::unique_ptr<Supervisor> supervisor_;
  std::map<std::string, std::shared_ptr<FakeSession>> sessions_;
};

}  // namespace moe::coordinator
