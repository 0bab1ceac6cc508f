// Calls whose request cannot be read: not what the method takes, or broken off. gRPC answers them
// itself (UNIMPLEMENTED), and no handler hears of them; this does. What is above gRPC's size limit
// is refused before that, and only shows as admitted and never come (access.h); what is above ours,
// which is lower, its handler refuses (services/unary.h).
#pragma once

#include <grpcpp/grpcpp.h>
#include <grpcpp/support/server_interceptor.h>

#include <functional>
#include <string>
#include <utility>

namespace moe::coordinator {

// For ServerBuilder::experimental().SetInterceptorCreators. Not told of are later messages of a
// client's stream: their handlers see the stream end.
class UnreadableRequests final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  // From any of gRPC's threads; `method` is "GetJob".
  using OnUnreadable =
      std::function<void(const grpc::ServerContextBase& context, const std::string& method)>;

  explicit UnreadableRequests(OnUnreadable on_unreadable)
      : on_unreadable_(std::move(on_unreadable)) {}

  grpc::experimental::Interceptor* CreateServerInterceptor(
      grpc::experimental::ServerRpcInfo* call) override;

 private:
  const OnUnreadable on_unreadable_;
};

}  // namespace moe::coordinator
