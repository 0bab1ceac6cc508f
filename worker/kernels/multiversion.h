// Compiles a function for several instruction sets; the loader picks the best one for this CPU.
//
// Kernels here are plain loops that the compiler vectorises, so one body serves AVX-512, AVX2 and
// any x86-64. Put the macro on functions that hold whole loops: what they call must be inlined.
#pragma once

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
// Sanitizers cannot run the resolver, which runs before they are set up.
#define MOE_MULTIVERSION \
  __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default")))
#else
#define MOE_MULTIVERSION
#endif

#define MOE_ALWAYS_INLINE inline __attribute__((always_inline))
