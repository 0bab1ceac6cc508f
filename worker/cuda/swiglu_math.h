// SwiGLU for one element: the body of the CUDA kernel, compiled for the CPU as well, where it is
// tested (tests/unit/worker/cuda).
#pragma once

#include <cmath>

#ifdef __CUDACC__
#define MOE_HOST_DEVICE __host__ __device__
#else
#define MOE_HOST_DEVICE
#endif

namespace moe::cuda {

struct SwigluGradient {
  float gate;
  float up;
};

MOE_HOST_DEVICE inline float Swiglu(float gate, float up) {
  return gate / (1.0f + expf(-gate)) * up;
}

// d silu(g) / d g = s (1 + g (1 - s)) with s = sigmoid(g).
MOE_HOST_DEVICE inline SwigluGradient SwigluBackward(float gate, float up, float d_h) {
  const float sigmoid = 1.0f / (1.0f + expf(-gate));
  const float silu = gate * sigmoid;
  return {d_h * up * sigmoid * (1.0f + gate * (1.0f - sigmoid)), d_h * silu};
}

}  // namespace moe::cuda
