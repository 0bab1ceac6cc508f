#include <dlfcn.h>

#include "common/file.h"
#include "common/status.h"
#include "worker/cuda/plugin.h"

namespace moe::cuda {

bool HasGpu() {
  // The driver makes one device node per GPU; nvidiactl alone is a driver without a device.
  return FileExists("/dev/nvidiactl") && FileExists("/dev/nvidia0");
}

absl::StatusOr<Plugin*> LoadPlugin(const std::string& folder) {
  if (!HasGpu()) return FailedPrecondition("this machine has no NVIDIA GPU (no /dev/nvidia0)");
  const std::string path = JoinPath(folder, "libmoe_cuda.so");
  if (!FileExists(path)) {
    return NotFound("{} was not built: build on a machine with nvcc (preset cuda)", path);
  }
  void* library = ::dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (library == nullptr) return Internal("cannot load {}: {}", path, ::dlerror());
  const auto version = reinterpret_cast<int (*)()>(::dlsym(library, "moe_cuda_plugin_version"));
  const auto instance = reinterpret_cast<Plugin* (*)()>(::dlsym(library, "moe_cuda_plugin"));
  if (version == nullptr || instance == nullptr || version() != kPluginVersion) {
    return Internal("{} is of another build: version {}, this program needs {}", path,
                    version == nullptr ? -1 : version(), kPluginVersion);
  }
  return instance();
}

}  // namespace moe::cuda
