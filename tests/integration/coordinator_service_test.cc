// The coordinator as its clients meet it: the real server on loopback, real streams, a scripted
// worker. Waits are for conditions, with a deadline that only a failure reaches.
#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <thread>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/crc32c.h"
#include "common/file.h"
#include "common/status.h"
#include "coordinator/server.h"
#include "moe/v1/artefact_service.grpc.pb.h"
#include "moe/v1/cluster_service.grpc.pb.h"
#include "moe/v1/job_service.grpc.pb.h"
#include "moe/v1/worker_service.grpc.pb.h"
#include "storage/artefacts/manifest.h"

namespace moe::coordinator {
namespace {

using ::testing::HasSubstr;

constexpr absl::Duration kDeadline = absl::Seconds(20);

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  return grpc::CreateChannel(address, grpc::InsecureChannelCredentials());
}

void SetDeadline(grpc::ClientContext& context) {
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
}

// A worker's end of the session, driven line by line by the test.
class ScriptedWorker {
 public:
  ScriptedWorker(const std::string& address, const std::string& id, int slots,
                 const std::vector<v1::AttemptRef>& attempts = {})
      : stub_(v1::WorkerService::NewStub(Connect(address))), stream_(stub_->Session(&context_)) {
    reader_ = std::thread([this] { Read(); });
    v1::SessionRequest hello;
    v1::Register& registration = *hello.mutable_register_();
    registration.set_worker_id(id);
    registration.set_protocol_version(1);
    registration.set_host("localhost");
    for (int i = 0; i < slots; ++i) registration.add_slots()->set_index(i);
    registration.mutable_attempts()->Add(attempts.begin(), attempts.end());
    stream_->Write(hello);
  }
  ~ScriptedWorker() { Close(); }

  void Close() {
    if (!reader_.joinable()) return;
    context_.TryCancel();
    reader_.join();
    (void)stream_->Finish();
  }

  // The first message that matches, now or later; consumed with all before it.
  v1::SessionResponse Await(const std::function<bool(const v1::SessionResponse&)>& wanted) {
    absl::MutexLock lock(&mutex_);
    const absl::Time deadline = absl::Now() + kDeadline;
    while (true) {
      while (next_ < messages_.size()) {
        const v1::SessionResponse& message = messages_[next_++];
        if (wanted(message)) return message;
      }
      if (ended_ || arrived_.WaitWithDeadline(&mutex_, deadline)) {
        ADD_FAILURE() << "the expected message did not come";
        return {};
      }
    }
  }
  v1::StartAttempt AwaitStart() {
    return Await([](const auto& message) { return message.has_start(); }).start();
  }
  void AwaitAck(int64_t seq) {
    Await([&](const auto& m) { return m.has_report_ack() && m.report_ack().seq() >= seq; });
  }

  // Numbers the report and sends it.
  void Report(const v1::AttemptRef& attempt, v1::RankReport report) {
    report.set_seq(++seq_);
    v1::SessionRequest message;
    *message.mutable_reports()->mutable_attempt() = attempt;
    *message.mutable_reports()->add_reports() = std::move(report);
    stream_->Write(message);
  }
  void Log(const v1::AttemptRef& attempt, int64_t offset, const std::string& text) {
    v1::SessionRequest message;
    *message.mutable_log()->mutable_attempt() = attempt;
    message.mutable_log()->set_offset(offset);
    message.mutable_log()->set_data(text);
    stream_->Write(message);
  }
  void Exited(const v1::AttemptRef& attempt) {
    v1::SessionRequest message;
    *message.mutable_rank_exited()->mutable_attempt() = attempt;
    stream_->Write(message);
  }

  // Does a whole job of one rank: its output is a real artefact in the folder it was given.
  void Do(const v1::StartAttempt& start) {
    const Json spec = Json::parse(start.run_spec_json());
    seq_ = 0;
    v1::RankReport report;
    report.mutable_started()->set_device("cpu");
    Report(start.attempt(), report);
    Log(start.attempt(), 0, "started\n");
    if (start.kind() == "train") {
      for (int step = 1; step <= 3; ++step) {
        v1::StepReport& training = *report.mutable_step();
        training.set_step(step);
        training.set_loss(15.0 - step);
        training.set_tokens(step * 4096);
        training.clear_routing();
        v1::LayerRouting& layer = *training.add_routing();
        for (const int64_t load : {3, 1, 2, 2}) layer.add_load(load);
        Report(start.attempt(), report);
      }
    }
    const std::string folder = spec["output"]["dir"];
    std::filesystem::create_directories(folder);
    std::ofstream(folder + "/data") << "content";
    artefacts::Manifest manifest;
    manifest.kind = spec["output"]["kind"];
    manifest.name = spec["output"]["name"];
    manifest.job_id = spec["job_id"];
    manifest.attempt = spec["attempt"];
    const auto written = artefacts::WriteManifest(folder, manifest);
    ASSERT_TRUE(written.ok()) << written.status();
    v1::ArtefactWritten& artefact = *report.mutable_artefact();
    artefact.set_name(manifest.name);
    const std::map<std::string, v1::ArtefactKind> kinds = {
        {"dataset", v1::ARTEFACT_KIND_DATASET},
        {"model", v1::ARTEFACT_KIND_MODEL},
        {"checkpoint", v1::ARTEFACT_KIND_CHECKPOINT}};
    artefact.set_kind(kinds.at(manifest.kind));
    artefact.set_path(folder);
    artefact.set_manifest_crc32c(written->crc32c);
    Report(start.attempt(), report);
    const auto decision = Await([](const auto& message) { return message.has_command(); });
    EXPECT_THAT(decision.command().json(), HasSubstr("\"committed\":true"));
    report.mutable_finished()->set_summary("done");
    Report(start.attempt(), report);
    Log(start.attempt(), 8, "finished\n");
    Exited(start.attempt());
    Await([](const auto& message) { return message.has_forget(); });
  }

 private:
  void Read() {
    v1::SessionResponse message;
    while (stream_->Read(&message)) {
      absl::MutexLock lock(&mutex_);
      messages_.push_back(message);
      arrived_.SignalAll();
    }
    absl::MutexLock lock(&mutex_);
    ended_ = true;
    arrived_.SignalAll();
  }

  grpc::ClientContext context_;
  std::unique_ptr<v1::WorkerService::Stub> stub_;
  std::unique_ptr<grpc::ClientReaderWriter<v1::SessionRequest, v1::SessionResponse>> stream_;
  std::thread reader_;
  int64_t seq_ = 0;

  absl::Mutex mutex_;
  absl::CondVar arrived_;
  std::vector<v1::SessionResponse> messages_ ABSL_GUARDED_BY(mutex_);
  size_t next_ ABSL_GUARDED_BY(mutex_) = 0;
  bool ended_ ABSL_GUARDED_BY(mutex_) = false;
};

class CoordinatorServiceTest : public ::testing::Test {
 protected:
  CoordinatorServiceTest() {
    folder_ = std::filesystem::temp_directory_path() /
              fmt::format("moe-service-{}-{}", ::getpid(),
                          ::testing::UnitTest::GetInstance()->current_test_info()->name());
    std::filesystem::remove_all(folder_);
    std::filesystem::create_directories(folder_ / "text");
    std::ofstream(folder_ / "text/a.txt") << "some text";
    std::ofstream(folder_ / "tokenizer.json") << "{}";
    StartServer();
  }
  ~CoordinatorServiceTest() override {
    server_.reset();
    std::filesystem::remove_all(folder_);
  }

  Server::Options Options() {
    return {.listen = "127.0.0.1:0",
            .metrics_listen = "127.0.0.1:0",
            .data_dir = folder_ / "data",
            .artefact_root = folder_ / "artefacts"};
  }
  void StartServer() {
    server_.reset();
    auto server = Server::Start(Options());
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = *std::move(server);
    jobs_ = v1::JobService::NewStub(Connect(server_->address()));
  }

  v1::SubmitPipelineRequest Pipeline(const std::string& request_id) {
    v1::SubmitPipelineRequest request;
    request.set_request_id(request_id);
    v1::JobSpec& spec = *request.add_jobs();
    spec.set_name("corpus");
    spec.mutable_prepare()->mutable_tokenizer()->set_path(folder_ / "tokenizer.json");
    v1::DomainInput& domain = *spec.mutable_prepare()->add_domains();
    domain.set_name("books");
    domain.add_paths(folder_ / "text");
    return request;
  }
  grpc::Status Submit(const v1::SubmitPipelineRequest& request,
                      v1::SubmitPipelineResponse* response) {
    grpc::ClientContext context;
    SetDeadline(context);
    return jobs_->SubmitPipeline(&context, request, response);
  }
  v1::Job Get(const std::string& job) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::GetJobRequest request;
    request.set_job(job);
    v1::GetJobResponse response;
    EXPECT_TRUE(jobs_->GetJob(&context, request, &response).ok());
    return response.job();
  }
  // Every message of a watch, until the stream ends.
  std::vector<v1::WatchJobsResponse> WatchUntilEnded(const std::string& job_id, int64_t from) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::WatchJobsRequest request;
    request.add_job_ids(job_id);
    request.set_from_revision(from);
    request.set_until_ended(true);
    auto stream = jobs_->WatchJobs(&context, request);
    std::vector<v1::WatchJobsResponse> messages;
    v1::WatchJobsResponse message;
    while (stream->Read(&message)) messages.push_back(message);
    const grpc::Status status = stream->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return messages;
  }
  // What becomes of a call with these bytes as its request.
  grpc::Status Ask(const std::string& path, const std::string& request) {
    grpc::ClientContext context;
    SetDeadline(context);
    grpc::GenericStub stub(Connect(server_->address()));
    grpc::CompletionQueue queue;
    const auto call = stub.PrepareCall(&context, path, &queue);
    const auto wait = [&queue] {
      void* tag = nullptr;
      bool ok = false;
      EXPECT_TRUE(queue.Next(&tag, &ok));
    };
    call->StartCall(nullptr);
    wait();
    const grpc::Slice bytes(request);
    call->WriteLast(grpc::ByteBuffer(&bytes, 1), {}, nullptr);
    wait();
    grpc::Status status;
    call->Finish(&status, nullptr);
    wait();
    return status;
  }
  std::string ReadLog(const std::string& job, bool follow) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::ReadLogsRequest request;
    request.set_job(job);
    request.set_follow(follow);
    auto stream = jobs_->ReadLogs(&context, request);
    std::string text;
    v1::ReadLogsResponse piece;
    while (stream->Read(&piece)) text += piece.data();
    const grpc::Status status = stream->Finish();
    EXPECT_TRUE(status.ok()) << status.error_message();
    return text;
  }

  std::filesystem::path folder_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<v1::JobService::Stub> jobs_;
};

TEST_F(CoordinatorServiceTest, JobRunsFromSubmitToCataloguedOutput) {
  v1::SubmitPipelineResponse submitted;
  const grpc::Status status = Submit(Pipeline("wish"), &submitted);
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(submitted.jobs(0).job_id(), "j1");

  std::vector<v1::WatchJobsResponse> watched;
  std::thread watcher([&] { watched = WatchUntilEnded("j1", submitted.jobs(0).revision()); });
  std::string log;
  std::thread reader([&] { log = ReadLog("corpus", /*follow=*/true); });
  ScriptedWorker worker(server_->address(), "w1", 1);
  worker.Do(worker.AwaitStart());
  watcher.join();
  reader.join();

  std::vector<v1::JobState> states;
  for (const auto& message : watched) {
    if (message.has_event() && (states.empty() || states.back() != message.event().state())) {
      states.push_back(message.event().state());
    }
  }
  // The watch began at the submission, so it has every state from there.
  EXPECT_EQ(states, (std::vector<v1::JobState>{v1::JOB_STATE_STARTING, v1::JOB_STATE_RUNNING,
                                               v1::JOB_STATE_SUCCEEDED}));
  EXPECT_EQ(log, "started\nfinished\n");
  EXPECT_EQ(ReadLog("j1", /*follow=*/false), log);

  grpc::ClientContext context;
  SetDeadline(context);
  v1::GetArtefactRequest request;
  request.set_artefact("corpus");
  v1::GetArtefactResponse artefact;
  ASSERT_TRUE(v1::ArtefactService::NewStub(Connect(server_->address()))
                  ->GetArtefact(&context, request, &artefact)
                  .ok());
  EXPECT_EQ(artefact.artefact().version(), 1);
  EXPECT_EQ(artefact.artefact().job_id(), "j1");
}

TEST_F(CoordinatorServiceTest, SameRequestIdAfterRestart_ReturnsSameJob) {
  v1::SubmitPipelineResponse first, second;
  ASSERT_TRUE(Submit(Pipeline("wish"), &first).ok());
  StartServer();
  // The input is gone by now: what was accepted is not judged again.
  std::filesystem::remove_all(folder_ / "text");
  ASSERT_TRUE(Submit(Pipeline("wish"), &second).ok());
  EXPECT_EQ(second.jobs(0).job_id(), first.jobs(0).job_id());
  v1::SubmitPipelineRequest other = Pipeline("wish");
  other.mutable_jobs(0)->set_name("another");
  EXPECT_EQ(Submit(other, &second).error_code(), grpc::StatusCode::ALREADY_EXISTS);
}

TEST_F(CoordinatorServiceTest, ManyClientsSubmitAtOnce_EachRequestMakesOneJob) {
  constexpr int kClients = 8;
  constexpr int kRequests = 20;
  std::vector<std::thread> clients;
  for (int client = 0; client < kClients; ++client) {
    clients.emplace_back([&] {
      for (int i = 0; i < kRequests; ++i) {
        // All clients send the same request ids.
        v1::SubmitPipelineResponse response;
        const grpc::Status status = Submit(Pipeline(fmt::format("wish-{}", i)), &response);
        EXPECT_TRUE(status.ok()) << status.error_message();
      }
    });
  }
  for (std::thread& client : clients) client.join();
  grpc::ClientContext context;
  v1::ListJobsResponse listed;
  ASSERT_TRUE(jobs_->ListJobs(&context, {}, &listed).ok());
  EXPECT_EQ(listed.jobs_size(), kRequests);
}

TEST_F(CoordinatorServiceTest, ValidateOnly_ChangesNothing) {
  v1::SubmitPipelineRequest request = Pipeline("");
  request.set_validate_only(true);
  v1::SubmitPipelineResponse response;
  ASSERT_TRUE(Submit(request, &response).ok());
  EXPECT_EQ(response.jobs(0).spec().prepare().heldout_fraction(), 0.05);
  EXPECT_TRUE(response.pipeline_id().empty());
  grpc::ClientContext context;
  v1::ListJobsResponse listed;
  ASSERT_TRUE(jobs_->ListJobs(&context, {}, &listed).ok());
  EXPECT_EQ(listed.jobs_size(), 0);
}

TEST_F(CoordinatorServiceTest, BadPipeline_IsRefusedBeforeAnythingStarts) {
  v1::SubmitPipelineRequest request = Pipeline("wish");
  request.mutable_jobs(0)->mutable_prepare()->mutable_domains(0)->set_paths(0, "/no/such/folder");
  v1::SubmitPipelineResponse response;
  const grpc::Status status = Submit(request, &response);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("/no/such/folder does not exist"));
}

TEST_F(CoordinatorServiceTest, ArtefactWithAWrongChecksum_IsNotCatalogued) {
  v1::SubmitPipelineResponse submitted;
  ASSERT_TRUE(Submit(Pipeline("wish"), &submitted).ok());
  ScriptedWorker worker(server_->address(), "w1", 1);
  const v1::StartAttempt start = worker.AwaitStart();
  const Json spec = Json::parse(start.run_spec_json());
  const std::string folder = spec["output"]["dir"];
  std::filesystem::create_directories(folder);
  std::ofstream(folder + "/data") << "content";
  const auto written = artefacts::WriteManifest(
      folder, {.kind = "dataset", .name = "corpus", .job_id = "j1", .attempt = 1});
  ASSERT_TRUE(written.ok());
  v1::RankReport report;
  report.mutable_artefact()->set_name("corpus");
  report.mutable_artefact()->set_kind(v1::ARTEFACT_KIND_DATASET);
  report.mutable_artefact()->set_path(folder);
  report.mutable_artefact()->set_manifest_crc32c(written->crc32c ^ 1);
  worker.Report(start.attempt(), report);
  const auto refused = worker.Await([](const auto& message) { return message.has_command(); });
  EXPECT_THAT(refused.command().json(), HasSubstr("\"committed\":false"));

  // The same with the right checksum, but a file that lost its tail.
  std::filesystem::resize_file(folder + "/data", 3);
  report.mutable_artefact()->set_manifest_crc32c(written->crc32c);
  worker.Report(start.attempt(), report);
  const auto again = worker.Await([](const auto& message) { return message.has_command(); });
  EXPECT_THAT(again.command().json(), HasSubstr("\"committed\":false"));
  EXPECT_TRUE(Get("j1").outputs().empty());
}

TEST_F(CoordinatorServiceTest, CoordinatorRestart_RankGoesOnWithTheSameAttempt) {
  v1::SubmitPipelineResponse submitted;
  ASSERT_TRUE(Submit(Pipeline("wish"), &submitted).ok());
  auto worker = std::make_unique<ScriptedWorker>(server_->address(), "w1", 1);
  const v1::StartAttempt start = worker->AwaitStart();
  v1::RankReport report;
  report.mutable_started()->set_device("cpu");
  worker->Report(start.attempt(), report);
  worker->AwaitAck(1);

  StartServer();
  worker = std::make_unique<ScriptedWorker>(server_->address(), "w1", 1,
                                            std::vector<v1::AttemptRef>{start.attempt()});
  const auto registered = worker->Await([](const auto& m) { return m.has_registered(); });
  ASSERT_EQ(registered.registered().cursors_size(), 1);
  EXPECT_EQ(registered.registered().cursors(0).report_seq(), 1);
  EXPECT_EQ(Get("j1").state(), v1::JOB_STATE_RUNNING);
  EXPECT_EQ(Get("j1").attempt(), 1);
}

TEST_F(CoordinatorServiceTest, SessionWithoutRegister_IsRefused) {
  grpc::ClientContext context;
  SetDeadline(context);
  const auto stub = v1::WorkerService::NewStub(Connect(server_->address()));
  auto stream = stub->Session(&context);
  v1::SessionRequest heartbeat;
  heartbeat.mutable_heartbeat()->set_seq(1);
  ASSERT_TRUE(stream->Write(heartbeat));
  v1::SessionResponse response;
  EXPECT_FALSE(stream->Read(&response));
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::INVALID_ARGUMENT);
}

TEST_F(CoordinatorServiceTest, Shutdown_EndsOpenStreams) {
  v1::SubmitPipelineResponse submitted;
  ASSERT_TRUE(Submit(Pipeline("wish"), &submitted).ok());
  grpc::ClientContext context;
  v1::WatchJobsRequest request;
  auto stream = jobs_->WatchJobs(&context, request);
  v1::WatchJobsResponse message;
  ASSERT_TRUE(stream->Read(&message));
  ScriptedWorker worker(server_->address(), "w1", 1);
  worker.AwaitStart();
  server_->Shutdown();
  while (stream->Read(&message)) {
  }
  EXPECT_EQ(stream->Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST_F(CoordinatorServiceTest, Watch_InBatches_TellsTheSameInFewerMessages) {
  v1::SubmitPipelineRequest many = Pipeline("many");
  for (int i = 1; i < 1000; ++i) {
    *many.add_jobs() = many.jobs(0);
    many.mutable_jobs(i)->set_name(fmt::format("corpus-{}", i));
  }
  v1::SubmitPipelineResponse submitted;
  ASSERT_TRUE(Submit(many, &submitted).ok());
  // The bytes of every change, as of a message of its own, and how many messages there were.
  const auto watch = [&](bool batch) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::WatchJobsRequest request;
    request.set_batch(batch);
    auto stream = jobs_->WatchJobs(&context, request);
    std::vector<std::string> changes;
    int messages = 0;
    v1::WatchJobsResponse message;
    while (changes.size() < 1000 && stream->Read(&message)) {
      ++messages;
      v1::WatchJobsResponse first = message;
      first.clear_more();
      changes.push_back(first.SerializeAsString());
      for (const auto& more : message.more()) changes.push_back(more.SerializeAsString());
    }
    context.TryCancel();
    return std::pair(changes, messages);
  };
  const auto [one_by_one, messages] = watch(false);
  const auto [batched, fewer_messages] = watch(true);
  EXPECT_EQ(one_by_one.size(), 1000u);
  EXPECT_EQ(messages, 1000);
  EXPECT_EQ(batched, one_by_one);
  EXPECT_LT(fewer_messages, 100);
}

TEST_F(CoordinatorServiceTest, Watch_RequestThatIsNone_IsRefused) {
  const grpc::Status status = Ask("/moe.v1.JobService/WatchJobs", std::string(40, '\xff'));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("not what WatchJobs takes"));
}

TEST_F(CoordinatorServiceTest, RequestAboveTheLimit_OfAnyRpc_IsRefused) {
  // A field that no request knows: 2047, of that many bytes.
  std::string request;
  {
    google::protobuf::io::StringOutputStream stream(&request);
    google::protobuf::io::CodedOutputStream output(&stream);
    output.WriteTag(2047 << 3 | 2);
    output.WriteVarint32(17 << 20);
  }
  request.resize(request.size() + (17 << 20));
  int methods = 0;
  for (const char* service :
       {"Job", "Artefact", "Cluster", "Sampler", "Access", "Audit", "Worker"}) {
    const std::string name = fmt::format("moe.v1.{}Service", service);
    const auto* descriptor =
        google::protobuf::DescriptorPool::generated_pool()->FindServiceByName(name);
    ASSERT_NE(descriptor, nullptr) << name;
    for (int i = 0; i < descriptor->method_count(); ++i, ++methods) {
      const std::string path = fmt::format("/{}/{}", name, descriptor->method(i)->name());
      const grpc::Status status = Ask(path, request);
      EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << path;
      EXPECT_THAT(status.error_message(), HasSubstr("the limit is 16777216")) << path;
    }
  }
  EXPECT_GT(methods, 25);
}

TEST_F(CoordinatorServiceTest, WatcherThatDoesNotRead_IsCutOffAndToldWhereToGoOn) {
  v1::SubmitPipelineResponse submitted;
  ASSERT_TRUE(Submit(Pipeline("first"), &submitted).ok());
  v1::WatchJobsRequest request;
  v1::WatchJobsResponse message;
  // Of its own connection, whose window stays at HTTP/2's 64 KiB: gRPC would widen it by the speed
  // of what it carries, on some machines to more than is sent here.
  grpc::ChannelArguments narrow;
  narrow.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  narrow.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto sleepy_jobs = v1::JobService::NewStub(
      grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(), narrow));
  grpc::ClientContext sleepy;
  auto stream = sleepy_jobs->WatchJobs(&sleepy, request);
  ASSERT_TRUE(stream->Read(&message));
  // More than the 10,000 that may wait for a watcher and the few that fit into the connection.
  for (int i = 0; i < 12; ++i) {
    v1::SubmitPipelineRequest many = Pipeline(fmt::format("many-{}", i));
    for (int j = 1; j < 1000; ++j) {
      *many.add_jobs() = many.jobs(0);
      many.mutable_jobs(j)->set_name(fmt::format("corpus-{}", j));
    }
    const grpc::Status status = Submit(many, &submitted);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }
  // One who comes now is told something when all those changes were given to those before it.
  grpc::ClientContext later;
  ASSERT_TRUE(jobs_->WatchJobs(&later, request)->Read(&message));
  later.TryCancel();
  while (stream->Read(&message)) {
  }
  const grpc::Status status = stream->Finish();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << status.error_message();
  const int64_t seen = message.job().revision();
  EXPECT_THAT(status.error_message(),
              HasSubstr(fmt::format("watch again with from_revision={}", seen)));
  grpc::ClientContext awake;
  request.set_from_revision(seen);
  stream = jobs_->WatchJobs(&awake, request);
  ASSERT_TRUE(stream->Read(&message));
  EXPECT_EQ(message.job().revision(), seen + 1);
  awake.TryCancel();
}

// One that goes while a message is on its way to it may be told that the message has gone.
TEST_F(CoordinatorServiceTest, WatchersThatGoWhileTheyAreTold_DoNotHoldUpTheEnd) {
  v1::SubmitPipelineResponse submitted;
  ASSERT_TRUE(Submit(Pipeline("first"), &submitted).ok());
  for (int i = 0; i < 200; ++i) {
    grpc::ClientContext context;
    v1::WatchJobsResponse message;
    const auto stream = jobs_->WatchJobs(&context, {});
    ASSERT_TRUE(stream->Read(&message));
    context.TryCancel();
  }
  server_.reset();
}

TEST_F(CoordinatorServiceTest, ReadersOfALogThatGoWhileTheyAreTold_DoNotHoldUpTheEnd) {
  v1::SubmitPipelineResponse submitted;
  ASSERT_TRUE(Submit(Pipeline("first"), &submitted).ok());
  ScriptedWorker worker(server_->address(), "w1", 1);
  const v1::StartAttempt start = worker.AwaitStart();
  worker.Log(start.attempt(), 0, "step 1\n");
  v1::ReadLogsRequest request;
  request.set_job(submitted.jobs(0).job_id());
  request.set_follow(true);
  for (int i = 0; i < 200; ++i) {
    grpc::ClientContext context;
    v1::ReadLogsResponse piece;
    const auto stream = jobs_->ReadLogs(&context, request);
    ASSERT_TRUE(stream->Read(&piece));
    context.TryCancel();
  }
  server_.reset();
}

TEST_F(CoordinatorServiceTest, BadOptions_AreRefusedWithTheFlagToChange) {
  const auto refused = [&](const std::function<void(Server::Options&)>& change) {
    Server::Options options = Options();
    options.data_dir = folder_ / "other-data";
    options.artefact_root = folder_ / "other-artefacts";
    change(options);
    const auto server = Server::Start(options);
    EXPECT_FALSE(server.ok());
    return Message(server.status());
  };
  EXPECT_THAT(refused([](auto& o) { o.listen = "0.0.0.0:0"; }), HasSubstr("--tls-dir"));
  EXPECT_THAT(refused([](auto& o) { o.listen = "nonsense"; }), HasSubstr("HOST:PORT"));
  EXPECT_THAT(refused([&](auto& o) { o.listen = server_->address(); }),
              HasSubstr("the port is in use"));
  EXPECT_THAT(refused([](auto& o) { o.artefact_root = "/proc/artefacts"; }),
              HasSubstr("--artefact-root /proc/artefacts"));
  EXPECT_THAT(refused([&](auto& o) { o.data_dir = folder_ / "data"; }),
              HasSubstr("in use by another process"));
  EXPECT_THAT(refused([&](auto& o) { o.artefact_root = folder_ / "artefacts"; }),
              HasSubstr("belongs to another store"));
  EXPECT_THAT(refused([](auto& o) { o.retry_backoff.first_ms = 0; }),
              HasSubstr("--retry-backoff-ms 0 is out of range; use 1 to"));
  EXPECT_THAT(
      refused([](auto& o) { o.retry_backoff = {.first_ms = 20, .longest_ms = 10}; }),
      HasSubstr("--retry-backoff-ms 20 is out of range; use 1 to --max-retry-backoff-ms 10"));
  EXPECT_THAT(refused([](auto& o) { o.retry_backoff.longest_ms = 86'400'001; }),
              HasSubstr("--max-retry-backoff-ms 86400001 is out of range; use at most 86400000"));
}

}  // namespace
}  // namespace moe::coordinator
