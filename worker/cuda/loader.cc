#include <dlfcn.h>
#include <fmt/format.h>

#include "common/file.h"
#include "common/status.h"
#include "worker/cuda/plugin.h"

namespace moe::cuda {

bool HasGpu() {
  // The driver makes one device node per GPU, of which a container may have any; nvidiactl alone is
  // a driver without a device.
  constexpr int kMostDevices = 32;
  if (!FileExists("/dev/nvidiactl")) return false;
  for (int device = 0; device < kMostDevices; ++device) {
    if (FileExists(fmt::format("/dev/nvidia{}", device))) return true;
  }
  return false;
}

absl::StatusOr<Plugin*> LoadPlugin(const std::string& folder) {
  if (!HasGpu()) return FailedPrecondition("this machine has no NVIDIA GPU (no /dev/nvidiaN)");
  const std::string path = JoinPath(folder, "libmoe_cuda.so");
  if (!FileExists(path)) {
    return NotFound("{} was not built: build on a machine with nvcc and NCCL (preset cuda)", path);
  }
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) {
    return Internal("cannot load {}: {}; deploy/install_deps.sh installs what it needs", path,
                    ::dlerror());
  }
  const auto version = reinterpret_cast<int (*)()>(::dlsym(library, "moe_cuda_plugin_version"));
  const auto instance = reinterpret_cast<Plugin* (*)()>(::dlsym(library, "moe_cuda_plugin"));
  if (version == nullptr || instance == nullptr || version() != kPluginVersion) {
    return Internal("{} is of another build: version {}, this program needs {}", path,
                    version == nullptr ? -1 : version(), kPluginVersion);
  }
  return instance();
}

}  // namespace moe::cuda
