// Requests of any bytes to every RPC of the coordinator, over a real connection to a real server:
// "JobService/GetJob\n" and the bytes of the message. "WorkerService/Session registered" sends them
// as the second message of a worker that has said who it is.
#include <google/protobuf/descriptor.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <string>

#include "common/net/sha256.h"
#include "common/status.h"
#include "coordinator/server.h"
#include "moe/v1/worker_service.pb.h"
#include "tests/fuzz/target.h"
#include "tests/unit/common/temporary_folder.h"

namespace moe::fuzz {
namespace {

// So that neither jobs nor workers of earlier inputs fill the memory.
constexpr int kCallsPerServer = 5000;
// What waits for something that does not come, as a watch does, is left after this long.
constexpr std::chrono::milliseconds kPatience{100};
constexpr char kRegistered[] = " registered";

grpc::ByteBuffer Bytes(const std::string& bytes) {
  const grpc::Slice slice(bytes);
  return grpc::ByteBuffer(&slice, 1);
}

std::string RegisterBytes() {
  v1::SessionRequest request;
  v1::Register& hello = *request.mutable_register_();
  hello.set_worker_id("w1");
  hello.set_protocol_version(1);
  hello.set_host("localhost");
  hello.add_slots();
  return request.SerializeAsString();
}

// A call with one or two messages, on a thread of its own: this one.
class Call {
 public:
  Call(grpc::GenericStub* stub, const std::string& path) {
    context_.set_deadline(std::chrono::system_clock::now() + kPatience);
    stream_ = stub->PrepareCall(&context_, path, &queue_);
    stream_->StartCall(this);
    alive_ = Next();
  }
  ~Call() {
    queue_.Shutdown();
    while (Next()) {
    }
  }
  void Send(const std::string& message) {
    if (!alive_) return;
    stream_->Write(Bytes(message), this);
    alive_ = Next();
  }
  grpc::Status Finish() {
    if (alive_) {
      stream_->WritesDone(this);
      Next();
    }
    grpc::ByteBuffer answer;
    do {
      stream_->Read(&answer, this);
    } while (Next());
    grpc::Status status;
    stream_->Finish(&status, this);
    Next();
    return status;
  }

 private:
  bool Next() {
    void* tag = nullptr;
    bool ok = false;
    return queue_.Next(&tag, &ok) && ok;
  }

  grpc::ClientContext context_;
  grpc::CompletionQueue queue_;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream_;
  bool alive_ = false;
};

class Target {
 public:
  Target() {
    spdlog::set_level(spdlog::level::off);
    // OpenSSL cleans up at exit, from its first use on: that must come after the server has gone.
    Sha256("");
    const std::string data = folder_.File("data"), root = folder_.File("root");
    // No path of a job is to be read, least of all one that never ends.
    auto server = coordinator::Server::Start({.listen = "127.0.0.1:0",
                                              .metrics_listen = "",
                                              .data_dir = data,
                                              .artefact_root = root,
                                              .allow_roots = {folder_.path()}});
    MOE_CHECK(server.ok());
    server_ = *std::move(server);
    stub_ = std::make_unique<grpc::GenericStub>(
        grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials()));
  }

  void Ask(const std::string& method, const std::string& message, bool registered) {
    Call call(stub_.get(), "/moe.v1." + method);
    if (registered) call.Send(RegisterBytes());
    call.Send(message);
    const grpc::Status status = call.Finish();
    // To gRPC 1.51 a message that it cannot parse is one that nobody implements, without a word.
    if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED) return;
    MOE_CHECK(status.error_code() != grpc::StatusCode::UNKNOWN);
    MOE_CHECK(status.error_code() != grpc::StatusCode::UNAVAILABLE);
    MOE_CHECK(status.ok() || status.error_message().size() > 5);
  }

 private:
  TemporaryFolder folder_;
  std::unique_ptr<coordinator::Server> server_;
  std::unique_ptr<grpc::GenericStub> stub_;
};

bool IsMethod(const std::string& name) {
  std::string full = "moe.v1." + name;
  std::replace(full.begin(), full.end(), '/', '.');
  const auto* pool = google::protobuf::DescriptorPool::generated_pool();
  return name.find('/') != std::string::npos && pool->FindMethodByName(full) != nullptr;
}

}  // namespace
}  // namespace moe::fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace moe::fuzz;
  static std::unique_ptr<Target> target;
  static int calls = 0;
  // Before what RocksDB keeps for the whole process goes.
  if (target == nullptr) target = std::make_unique<Target>();
  static const int at_exit = std::atexit([] { target.reset(); });
  MOE_CHECK(at_exit == 0);
  const std::string input(reinterpret_cast<const char*>(data), size);
  const size_t end = input.find('\n');
  if (end == std::string::npos) return 0;
  std::string method = input.substr(0, end);
  const bool registered = method.ends_with(kRegistered);
  if (registered) method.resize(method.size() - std::string(kRegistered).size());
  if (!IsMethod(method)) return 0;
  if (++calls % kCallsPerServer == 0) {
    target.reset();
    target = std::make_unique<Target>();
  }
  target->Ask(method, input.substr(end + 1), registered);
  return 0;
}
