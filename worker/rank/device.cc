#include "worker/rank/device.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <set>
#include <sstream>

#include "common/file.h"

namespace moe::rank {

std::string Device::Name() const {
  return fmt::format("cpu{}{}, {} thread{}", bf16_feature.empty() ? "" : " ", bf16_feature, threads,
                     threads == 1 ? "" : "s");
}

std::string Bf16Feature(const std::string& cpuinfo) {
  const size_t begin = cpuinfo.find("\nflags");
  if (begin == std::string::npos) return "";
  const size_t end = cpuinfo.find('\n', begin + 1);
  std::istringstream words(cpuinfo.substr(begin, end == std::string::npos ? end : end - begin));
  std::set<std::string> flags;
  for (std::string word; words >> word;) flags.insert(word);
  for (const char* feature : {"amx_bf16", "avx512_bf16"}) {
    if (flags.count(feature) > 0) return feature;
  }
  return "";
}

Device OpenDevice(int threads) {
  at::set_num_threads(threads);
  at::set_num_interop_threads(1);
  Device device{.threads = threads};
  if (const absl::StatusOr<std::string> cpuinfo = ReadFile("/proc/cpuinfo"); cpuinfo.ok()) {
    device.bf16_feature = Bf16Feature(*cpuinfo);
  } else {
    spdlog::warn("cannot read /proc/cpuinfo: bf16 is taken as not supported");
  }
  return device;
}

model::ComputeType ChooseCompute(const std::string& requested, const Device& device) {
  if (requested == "fp32") return model::ComputeType::kFp32;
  if (!device.bf16_feature.empty()) return model::ComputeType::kBf16;
  spdlog::warn(
      "compute_dtype=bf16 was asked for, but this CPU has no bf16 instructions and would be "
      "up to 500 times slower with it: computing in fp32");
  return model::ComputeType::kFp32;
}

const char* ComputeName(model::ComputeType compute) {
  return compute == model::ComputeType::kBf16 ? "bf16" : "fp32";
}

}  // namespace moe::rank
