#include "coordinator/unreadable_requests.h"

#include <string_view>

namespace moe::coordinator {
namespace {

using grpc::experimental::InterceptionHookPoints;
using grpc::experimental::Interceptor;
using grpc::experimental::InterceptorBatchMethods;
using grpc::experimental::ServerRpcInfo;

class Watch final : public Interceptor {
 public:
  Watch(const UnreadableRequests::OnUnreadable& on_unreadable, ServerRpcInfo* call)
      : on_unreadable_(on_unreadable), call_(call) {}

  void Intercept(InterceptorBatchMethods* methods) override {
    if (methods->QueryInterceptionHookPoint(InterceptionHookPoints::POST_RECV_MESSAGE) &&
        methods->GetRecvMessage() == nullptr) {
      const std::string_view path = call_->method();  // "/moe.v1.JobService/GetJob"
      on_unreadable_(*call_->server_context(), std::string(path.substr(path.rfind('/') + 1)));
    }
    methods->Proceed();
  }

 private:
  const UnreadableRequests::OnUnreadable& on_unreadable_;
  ServerRpcInfo* const call_;
};

}  // namespace

Interceptor* UnreadableRequests::CreateServerInterceptor(ServerRpcInfo* call) {
  // The end of a client's stream looks the same, and is nothing bad. nullptr: not this call.
  const bool has_one_request = call->type() == ServerRpcInfo::Type::UNARY ||
                               call->type() == ServerRpcInfo::Type::SERVER_STREAMING;
  return has_one_request ? new Watch(on_unreadable_, call) : nullptr;
}

}  // namespace moe::coordinator
