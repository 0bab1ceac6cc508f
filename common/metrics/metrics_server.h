// Serves /metrics of one registry, with the metrics of the process.
#pragma once

#include <prometheus/exposer.h>
#include <prometheus/registry.h>

#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "common/metrics/process_collector.h"
#include "common/net/endpoint.h"

namespace moe {

class MetricsServer {
 public:
  // Listens until destroyed. Port 0 picks a free one: see endpoint(). The registry is shared.
  static absl::StatusOr<std::unique_ptr<MetricsServer>> Start(
      const Endpoint& endpoint, std::shared_ptr<prometheus::Registry> registry);

  ~MetricsServer();

  const Endpoint& endpoint() const { return endpoint_; }
  std::string url() const { return "http://" + endpoint_.ToString() + "/metrics"; }

 private:
  MetricsServer() = default;

  Endpoint endpoint_;
  std::shared_ptr<prometheus::Registry> registry_;
  std::shared_ptr<ProcessCollector> process_ = std::make_shared<ProcessCollector>();
  std::unique_ptr<prometheus::Exposer> exposer_;
};

}  // namespace moe
