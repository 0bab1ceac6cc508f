#include "worker/rank/device.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <charconv>
#include <exception>
#include <filesystem>
#include <set>
#include <sstream>

#include "common/file.h"
#include "common/status.h"

namespace moe::rank {
namespace {

// Compute capabilities that the plug-in is built for begin with this one, and so does bf16.
constexpr int kLeastComputeCapability = 80;

// The plug-in lies beside this program.
absl::StatusOr<cuda::Plugin*> Plugin() {
  std::error_code error;
  const auto program = std::filesystem::read_symlink("/proc/self/exe", error);
  return cuda::LoadPlugin(program.parent_path().string());
}

absl::StatusOr<std::shared_ptr<const Gpu>> OpenGpu(int number) {
  MOE_ASSIGN_OR_RETURN(cuda::Plugin* const plugin, Plugin());
  try {
    if (const int count = plugin->NumDevices(); number < 0 || number >= count) {
      return InvalidArgument("gpu:{} does not exist: this machine shows {} GPU{} to the program",
                             number, count, count == 1 ? "" : "s");
    }
    auto gpu = std::make_shared<Gpu>();
    gpu->plugin = plugin;
    gpu->number = number;
    gpu->info = plugin->Describe(number);
    if (gpu->info.compute_capability < kLeastComputeCapability) {
      return FailedPrecondition("{} has compute capability {}.{}; at least 8.0 (A100) is needed",
                                gpu->info.name, gpu->info.compute_capability / 10,
                                gpu->info.compute_capability % 10);
    }
    gpu->kernels = plugin->MakeStepKernels(number);
    return std::shared_ptr<const Gpu>(std::move(gpu));
  } catch (const std::exception& error) {
    return Internal("cannot open gpu:{}: {}", number, error.what());  // another try may succeed
  }
}

}  // namespace

std::string Device::Name() const {
  if (gpu != nullptr) return gpu->info.name;
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

absl::StatusOr<std::shared_ptr<const Gpu>> ChooseGpu(const std::string& request) {
  if (request == "cpu") return nullptr;
  if (request == "auto") {
    absl::StatusOr<std::shared_ptr<const Gpu>> gpu = OpenGpu(0);
    if (gpu.ok()) return gpu;
    spdlog::info("computing on the CPU: {}", Message(gpu.status()));
    return nullptr;
  }
  constexpr std::string_view kGpu = "gpu:";
  int number = -1;
  const char* end = request.data() + request.size();
  if (!request.starts_with(kGpu) ||
      std::from_chars(request.data() + kGpu.size(), end, number).ptr != end) {
    return InvalidArgument("--device={}: use cpu, gpu:0, gpu:1, ..., or auto", request);
  }
  return OpenGpu(number);
}

absl::StatusOr<Device> OpenDevice(const std::string& request, int threads) {
  at::set_num_threads(threads);
  at::set_num_interop_threads(1);
  Device device{.threads = threads};
  if (const absl::StatusOr<std::string> cpuinfo = ReadFile("/proc/cpuinfo"); cpuinfo.ok()) {
    device.bf16_feature = Bf16Feature(*cpuinfo);
  } else {
    spdlog::warn("cannot read /proc/cpuinfo: bf16 is taken as not supported");
  }
  MOE_ASSIGN_OR_RETURN(device.gpu, ChooseGpu(request));
  return device;
}

absl::StatusOr<Json> ListGpus() {
  MOE_ASSIGN_OR_RETURN(const cuda::Plugin* const plugin, Plugin());
  Json gpus = Json::array();
  try {
    for (int number = 0; number < plugin->NumDevices(); ++number) {
      const cuda::DeviceInfo info = plugin->Describe(number);
      if (info.compute_capability < kLeastComputeCapability) continue;
      gpus.push_back({{"number", number},
                      {"name", info.name},
                      {"memory_bytes", info.memory_bytes},
                      {"compute_capability", info.compute_capability}});
    }
  } catch (const std::exception& error) {
    return FailedPrecondition("the driver refuses: {}", error.what());
  }
  return gpus;
}

model::ComputeType ChooseCompute(const std::string& requested, const Device& device) {
  if (requested == "fp32") return model::ComputeType::kFp32;
  if (device.gpu != nullptr || !device.bf16_feature.empty()) return model::ComputeType::kBf16;
  spdlog::warn(
      "compute_dtype=bf16 was asked for, but this CPU has no bf16 instructions and would be "
      "up to 500 times slower with it: computing in fp32");
  return model::ComputeType::kFp32;
}

const char* ComputeName(model::ComputeType compute) {
  return compute == model::ComputeType::kBf16 ? "bf16" : "fp32";
}

}  // namespace moe::rank
