#include "common/metrics/metrics_server.h"

#include <chrono>
#include <exception>
#include <future>
#include <utility>

#include "common/status.h"

namespace moe {

absl::StatusOr<std::unique_ptr<MetricsServer>> MetricsServer::Start(
    const Endpoint& endpoint, std::shared_ptr<prometheus::Registry> registry) {
  MOE_RETURN_IF_ERROR(CheckPortFree(endpoint, "--metrics-listen"));
  std::unique_ptr<MetricsServer> server(new MetricsServer());
  server->endpoint_ = endpoint;
  server->registry_ = std::move(registry);
  try {  // prometheus-cpp and civetweb report errors by exceptions
    server->exposer_ = std::make_unique<prometheus::Exposer>(endpoint.ToString(), 2);
  } catch (const std::exception& error) {
    return FailedPrecondition("--metrics-listen {}: cannot listen there: {}", endpoint.ToString(),
                              error.what());
  }
  server->endpoint_.port = static_cast<uint16_t>(server->exposer_->GetListeningPorts().at(0));
  server->exposer_->RegisterCollectable(server->registry_);
  server->exposer_->RegisterCollectable(server->process_);
  return server;
}

MetricsServer::~MetricsServer() {
  if (exposer_ == nullptr) return;
  // civetweb looks whether it should stop only every two seconds, or when a connection comes.
  std::future<void> stopped = std::async(std::launch::async, [this] { exposer_.reset(); });
  while (stopped.wait_for(std::chrono::milliseconds(10)) != std::future_status::ready) {
    (void)TryConnect(endpoint_);
  }
}

}  // namespace moe
