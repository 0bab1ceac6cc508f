#include "common/metrics/process_collector.h"

#include <sys/resource.h>
#include <unistd.h>

#include <fstream>
#include <sstream>
#include <string>

#include "common/file.h"

namespace moe {
namespace {

prometheus::MetricFamily Family(const std::string& name, const std::string& help,
                                prometheus::MetricType type, double value) {
  prometheus::MetricFamily family;
  family.name = name;
  family.help = help;
  family.type = type;
  prometheus::ClientMetric& metric = family.metric.emplace_back();
  metric.counter.value = value;
  metric.gauge.value = value;
  return family;
}

double CpuSeconds() {
  rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) * 1e-6;
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

double ResidentBytes() {
  std::ifstream statm("/proc/self/statm");
  double total_pages = 0, resident_pages = 0;
  statm >> total_pages >> resident_pages;
  return resident_pages * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

double OpenDescriptors() {
  const auto names = ListDirectory("/proc/self/fd");
  return names.ok() ? static_cast<double>(names->size()) - 1 : 0;  // one is the listing itself
}

// Seconds since the Unix epoch.
double StartTime() {
  std::ifstream stat("/proc/self/stat");
  std::string line;
  std::getline(stat, line);
  std::istringstream fields(line.substr(line.rfind(')') + 1));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  double start_ticks = 0;
  fields >> start_ticks;
  double boot_time = 0;
  std::ifstream proc_stat("/proc/stat");
  while (proc_stat >> skipped) {
    if (skipped == "btime") proc_stat >> boot_time;
  }
  return boot_time + start_ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

}  // namespace

std::vector<prometheus::MetricFamily> ProcessCollector::Collect() const {
  using prometheus::MetricType;
  return {
      Family("process_cpu_seconds_total", "User and system CPU time spent, in seconds.",
             MetricType::Counter, CpuSeconds()),
      Family("process_resident_memory_bytes", "Resident memory, in bytes.", MetricType::Gauge,
             ResidentBytes()),
      Family("process_open_fds", "Open file descriptors.", MetricType::Gauge, OpenDescriptors()),
      Family("process_start_time_seconds", "When the process started, in seconds since the epoch.",
             MetricType::Gauge, StartTime()),
  };
}

}  // namespace moe
