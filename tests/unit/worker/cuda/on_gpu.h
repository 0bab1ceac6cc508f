// The base of tests that need a GPU.
#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <string>

#include "worker/cuda/plugin.h"

namespace moe::cuda {

inline std::string BinDir() {
  const char* dir = std::getenv("MOE_BIN_DIR");
  return dir == nullptr ? "." : dir;
}

class OnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
#ifndef MOE_HAS_CUDA_PLUGIN
    GTEST_SKIP()
        << "the plug-in was not built: no nvcc, no NCCL, or LibTorch without its CUDA part";
#endif
    if (!HasGpu()) GTEST_SKIP() << "no GPU: the plug-in was built and linked, not run";
    auto plugin = LoadPlugin(BinDir());
    ASSERT_TRUE(plugin.ok()) << plugin.status();
    plugin_ = *plugin;
  }

  Plugin* plugin_ = nullptr;
};

}  // namespace moe::cuda
