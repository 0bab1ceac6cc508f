#include "common/metrics/metrics_server.h"

#include <exception>
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

}  // namespace moe
