// Load for the control plane, as one program with connections that stay: what a client can see of
// the coordinator, measured or recorded.
//
//   control_load ENDPOINT submit CLIENTS JOBS PREFIX TOKENIZER TEXT   a call for each job
//   control_load ENDPOINT array JOBS PREFIX TOKENIZER TEXT             one call for all
//   control_load ENDPOINT list PAGES                                  pages of 100, in order
//   control_load ENDPOINT dump                                        every job
//   control_load ENDPOINT await                                       until every job has ended
//   control_load ENDPOINT watch STREAMS                               follows all jobs until killed
//
// `submit` prints "ack NAME JOB_ID SENT_UNIX_NS SECONDS" for every acknowledged job, at once and in
// one write, so that a log of what was promised survives anything. A call that fails is sent again
// with the same request id until the coordinator answers or the program is killed. `watch` prints
// "watching" when all streams are there, and after a line with a revision on its standard input
// "told" when all have been told of every change up to it.
#include <fmt/format.h>
#include <google/protobuf/io/coded_stream.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "common/lock_checks.h"
#include "moe/v1/job_service.grpc.pb.h"

namespace moe {
namespace {

using SteadyClock = std::chrono::steady_clock;

double SecondsSince(SteadyClock::time_point start) {
  return std::chrono::duration<double>(SteadyClock::now() - start).count();
}

int64_t UnixNanos() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

void Print(const std::string& line) {
  if (::write(STDOUT_FILENO, line.data(), line.size()) != static_cast<ssize_t>(line.size())) {
    std::perror("control_load: standard output");
    std::_Exit(1);
  }
}

[[noreturn]] void Fail(const char* what, const grpc::Status& status) {
  std::fprintf(stderr, "control_load: %s: %s\n", what, status.error_message().c_str());
  std::_Exit(1);
}

// A connection of its own, not one shared between stubs of the same address.
std::shared_ptr<grpc::Channel> Channel(const std::string& endpoint, int number) {
  grpc::ChannelArguments arguments;
  arguments.SetInt("moe.connection", number);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 5'000);  // for one attempt to connect
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 20);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 50);
  return grpc::CreateCustomChannel(endpoint, grpc::InsecureChannelCredentials(), arguments);
}

std::unique_ptr<v1::JobService::Stub> Connect(const std::string& endpoint, int number) {
  return v1::JobService::NewStub(Channel(endpoint, number));
}

void SetDeadline(grpc::ClientContext& context) {
  context.set_wait_for_ready(true);
  context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(10));
}

struct Inputs {
  std::string prefix;
  std::string tokenizer;
  std::string text;
};

v1::SubmitPipelineRequest RequestFor(const Inputs& inputs, const std::string& name) {
  v1::SubmitPipelineRequest request;
  request.set_request_id(name);
  v1::JobSpec& job = *request.add_jobs();
  job.set_name(name);
  job.mutable_prepare()->mutable_tokenizer()->set_path(inputs.tokenizer);
  v1::DomainInput& domain = *job.mutable_prepare()->add_domains();
  domain.set_name("text");
  domain.add_paths(inputs.text);
  return request;
}

void SubmitOne(v1::JobService::Stub& stub, const v1::SubmitPipelineRequest& request) {
  const auto start = SteadyClock::now();
  const int64_t sent = UnixNanos();
  while (true) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::SubmitPipelineResponse answer;
    const grpc::Status status = stub.SubmitPipeline(&context, request, &answer);
    if (status.ok()) {
      Print(fmt::format("ack {} {} {} {:.6f}\n", request.request_id(), answer.jobs(0).job_id(),
                        sent, SecondsSince(start)));
      return;
    }
    if (status.error_code() != grpc::StatusCode::UNAVAILABLE &&
        status.error_code() != grpc::StatusCode::DEADLINE_EXCEEDED) {
      Fail("SubmitPipeline", status);
    }
  }
}

void Submit(const std::string& endpoint, int clients, int jobs, const Inputs& inputs) {
  std::atomic<int> next = 0;
  std::vector<std::thread> threads;
  const auto start = SteadyClock::now();
  for (int client = 0; client < clients; ++client) {
    threads.emplace_back([&, client] {
      const auto stub = Connect(endpoint, client);
      for (int number = next++; number < jobs; number = next++) {
        SubmitOne(*stub, RequestFor(inputs, fmt::format("{}-{}", inputs.prefix, number)));
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  Print(fmt::format("submitted {} {:.6f}\n", jobs, SecondsSince(start)));
}

void SubmitArray(const std::string& endpoint, int jobs, const Inputs& inputs) {
  v1::SubmitPipelineRequest request = RequestFor(inputs, inputs.prefix);
  request.mutable_jobs(0)->mutable_array()->set_size(jobs);
  SubmitOne(*Connect(endpoint, 0), request);
}

v1::ListJobsResponse ListPage(v1::JobService::Stub& stub, int size, const std::string& token) {
  v1::ListJobsRequest request;
  request.set_page_size(size);
  request.set_page_token(token);
  grpc::ClientContext context;
  SetDeadline(context);
  v1::ListJobsResponse page;
  const grpc::Status status = stub.ListJobs(&context, request, &page);
  if (!status.ok()) Fail("ListJobs", status);
  return page;
}

// Follows the pages from the newest job on and times each; starts again at the end.
void List(const std::string& endpoint, int pages) {
  const auto stub = Connect(endpoint, 0);
  std::string token;
  for (int i = 0; i < pages; ++i) {
    const auto start = SteadyClock::now();
    const v1::ListJobsResponse page = ListPage(*stub, 100, token);
    Print(
        fmt::format("page {} {:.6f} {}\n", page.jobs_size(), SecondsSince(start), page.revision()));
    token = page.next_page_token();
  }
}

void Dump(const std::string& endpoint) {
  const auto stub = Connect(endpoint, 0);
  std::string token;
  do {
    const v1::ListJobsResponse page = ListPage(*stub, 1000, token);
    std::string lines;
    for (const v1::Job& job : page.jobs()) {
      lines += fmt::format("job {} {} {} {}\n", job.spec().name(), job.job_id(), job.attempt(),
                           v1::JobState_Name(job.state()));
    }
    Print(lines);
    token = page.next_page_token();
  } while (!token.empty());
}

// Asks for one job that has not ended, again and again: little for the coordinator to do.
void Await(const std::string& endpoint) {
  const auto stub = Connect(endpoint, 0);
  v1::ListJobsRequest request;
  request.set_page_size(1);
  for (const v1::JobState state :
       {v1::JOB_STATE_PENDING, v1::JOB_STATE_QUEUED, v1::JOB_STATE_STARTING, v1::JOB_STATE_RUNNING,
        v1::JOB_STATE_STOPPING}) {
    request.add_states(state);
  }
  while (true) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::ListJobsResponse page;
    const grpc::Status status = stub->ListJobs(&context, request, &page);
    if (!status.ok()) Fail("ListJobs", status);
    if (page.jobs().empty()) return;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
  }
}

// What a message of a watch holds, without decoding what it says: a thousand watchers would each
// decode on a machine of its own.
struct Told {
  int64_t changes = 0;
  int64_t last_revision = 0;
};

Told LookAt(const grpc::ByteBuffer& message) {
  grpc::Slice bytes;
  if (!message.DumpToSingleSlice(&bytes).ok()) Fail("WatchJobs", grpc::Status::CANCELLED);
  google::protobuf::io::CodedInputStream in(bytes.begin(), static_cast<int>(bytes.size()));
  Told told = {.changes = 1};
  const uint8_t* last = bytes.begin();
  int last_size = static_cast<int>(bytes.size());
  while (const uint32_t tag = in.ReadTag()) {
    uint32_t size = 0;
    in.ReadVarint32(&size);  // every field is a message
    if (tag >> 3 == v1::WatchJobsResponse::kMoreFieldNumber) {
      ++told.changes;
      last = bytes.begin() + in.CurrentPosition();
      last_size = static_cast<int>(size);
    }
    if (!in.Skip(static_cast<int>(size))) Fail("WatchJobs", grpc::Status::CANCELLED);
  }
  v1::WatchJobsResponse change;
  if (!change.ParseFromArray(last, last_size)) Fail("WatchJobs", grpc::Status::CANCELLED);
  told.last_revision = change.job().revision();
  return told;
}

// One of many watchers of all jobs, driven by a completion queue.
class WatchingStream {
 public:
  WatchingStream(grpc::GenericStub& stub, const v1::WatchJobsRequest& request,
                 grpc::CompletionQueue* queue)
      : revision_(request.from_revision()) {
    const grpc::Slice bytes(request.SerializeAsString());
    request_ = grpc::ByteBuffer(&bytes, 1);
    call_ = stub.PrepareCall(&context_, "/moe.v1.JobService/WatchJobs", queue);
    call_->StartCall(this);
  }

  // What was begun last is done.
  void GoOn() {
    switch (step_++) {
      case 0:
        return call_->WriteLast(request_, {}, this);
      case 1:
        break;
      default:
        // Every revision of this benchmark is a change of a job.
        const Told told = LookAt(message_);
        if (revision_ + told.changes != told.last_revision) {
          Fail("WatchJobs", grpc::Status(grpc::StatusCode::DATA_LOSS, "changes are missing"));
        }
        revision_ = told.last_revision;
    }
    call_->Read(&message_, this);
  }
  bool started() const { return step_ > 1; }
  int64_t revision() const { return revision_; }

 private:
  grpc::ClientContext context_;
  grpc::ByteBuffer request_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> call_;
  grpc::ByteBuffer message_;
  int64_t revision_;  // of the newest change that it was told of
  int step_ = 0;
};

// STREAMS streams over a few connections, read by one thread: a thread each would measure threads.
// The revision that all of them are to reach comes in a line of standard input.
void Watch(const std::string& endpoint, int streams) {
  constexpr int kStreamsPerConnection = 50;
  grpc::CompletionQueue queue;
  std::vector<std::unique_ptr<grpc::GenericStub>> stubs;
  std::vector<std::unique_ptr<WatchingStream>> all;
  v1::WatchJobsRequest request;
  request.set_batch(true);
  request.set_from_revision(ListPage(*Connect(endpoint, -1), 1, "").revision());
  for (int i = 0; i < streams; ++i) {
    if (i % kStreamsPerConnection == 0) {
      stubs.push_back(std::make_unique<grpc::GenericStub>(Channel(endpoint, i)));
    }
    all.push_back(std::make_unique<WatchingStream>(*stubs.back(), request, &queue));
  }
  std::atomic<int64_t> wanted = std::numeric_limits<int64_t>::max();
  std::thread input([&wanted] {
    int64_t revision = 0;
    if (std::scanf("%ld", &revision) == 1) wanted = revision;
  });
  input.detach();
  bool said = false;
  while (true) {
    void* tag = nullptr;
    bool ok = false;
    const auto soon = std::chrono::system_clock::now() + std::chrono::milliseconds(10);
    if (queue.AsyncNext(&tag, &ok, soon) == grpc::CompletionQueue::GOT_EVENT) {
      if (!ok) Fail("WatchJobs", grpc::Status(grpc::StatusCode::ABORTED, "a stream ended"));
      static_cast<WatchingStream*>(tag)->GoOn();
      continue;
    }
    if (!said && std::all_of(all.begin(), all.end(), [](const auto& s) { return s->started(); })) {
      said = true;
      Print("watching\n");
    }
    if (std::all_of(all.begin(), all.end(),
                    [&](const auto& s) { return s->revision() >= wanted; })) {
      Print("told\n");
      std::_Exit(0);
    }
  }
}

int Main(const std::vector<std::string>& words) {
  const std::string command = words.size() > 1 ? words[1] : "";
  const auto number = [&](size_t i) { return std::atoi(words[i].c_str()); };
  if (command == "submit" && words.size() == 7) {
    Submit(words[0], number(2), number(3), {words[4], words[5], words[6]});
  } else if (command == "array" && words.size() == 6) {
    SubmitArray(words[0], number(2), {words[3], words[4], words[5]});
  } else if (command == "list" && words.size() == 3) {
    List(words[0], number(2));
  } else if (command == "dump" && words.size() == 2) {
    Dump(words[0]);
  } else if (command == "await" && words.size() == 2) {
    Await(words[0]);
  } else if (command == "watch" && words.size() == 3) {
    Watch(words[0], number(2));
  } else {
    std::fprintf(stderr, "usage: see the head of tests/bench/control_load.cc\n");
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace moe

int main(int argc, char** argv) {
  moe::StopLookingForDeadlocks();
  return moe::Main(std::vector<std::string>(argv + 1, argv + argc));
}
