// Declares the metrics of a program in one place, so that they can be listed without being used.
#pragma once

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>

#include <memory>
#include <string>
#include <vector>

namespace moe {

class MetricList {
 public:
  struct Entry {
    std::string name;
    std::string type;  // "counter", "gauge", "histogram"
    std::string help;
  };

  MetricList() : registry_(std::make_shared<prometheus::Registry>()) {}

  prometheus::Family<prometheus::Counter>& Counter(const std::string& name,
                                                   const std::string& help) {
    entries_.push_back({name, "counter", help});
    return prometheus::BuildCounter().Name(name).Help(help).Register(*registry_);
  }
  prometheus::Family<prometheus::Gauge>& Gauge(const std::string& name, const std::string& help) {
    entries_.push_back({name, "gauge", help});
    return prometheus::BuildGauge().Name(name).Help(help).Register(*registry_);
  }
  prometheus::Family<prometheus::Histogram>& Histogram(const std::string& name,
                                                       const std::string& help) {
    entries_.push_back({name, "histogram", help});
    return prometheus::BuildHistogram().Name(name).Help(help).Register(*registry_);
  }

  const std::vector<Entry>& entries() const { return entries_; }
  const std::shared_ptr<prometheus::Registry>& registry() const { return registry_; }

 private:
  std::shared_ptr<prometheus::Registry> registry_;
  std::vector<Entry> entries_;
};

}  // namespace moe
