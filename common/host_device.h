// For functions that a GPU runs as well, where nvcc compiles them.
#pragma once

#ifdef __CUDACC__
#define MOE_HOST_DEVICE __host__ __device__
#else
#define MOE_HOST_DEVICE
#endif
