// How a kernel of the device step is written: once, for the CPU and for a GPU.
//
// A kernel is a struct of pointers and sizes with
//
//   static constexpr int kThreads       how many threads of a GPU share a row: 1, 32 or 256
//   int64_t rows                        independent of one another
//   ElementType type                    only where it works on fp32 or bf16: the type T of Row
//   template <typename T, typename Team>
//   void Row(int64_t row, const Team&) const
//
// All members of a team call Row with the same row. A member has a rank() below size() and takes
// the columns that ForColumns gives it; Sum and Max are over the values of all members, which all
// get the result and have come that far. On the CPU a team is one thread (SoloTeam), on a GPU the
// threads of worker/cuda/team.cuh; tests also run teams of several CPU threads.
//
// Sums have a fixed order for a given size of the team, and rows write to memory of their own, so
// equal inputs give equal bits.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "common/host_device.h"
#include "worker/kernels/device/element_type.h"

namespace moe::kernels::device {

// The team of a CPU.
struct SoloTeam {
  MOE_HOST_DEVICE int rank() const { return 0; }
  MOE_HOST_DEVICE int size() const { return 1; }
  template <typename Number>
  MOE_HOST_DEVICE Number Sum(Number value) const {
    return value;
  }
  MOE_HOST_DEVICE float Max(float value) const { return value; }
};

// So many neighbouring elements, in fp32.
template <int kLanes>
struct Floats {
  float at[kLanes];
};

template <int kLanes, typename T>
struct alignas(sizeof(T) * kLanes) Pack {
  T at[kLanes];
};

template <int kLanes, typename T>
MOE_HOST_DEVICE inline Floats<kLanes> Load(const T* from) {
  const auto pack = *reinterpret_cast<const Pack<kLanes, T>*>(from);
  Floats<kLanes> values;
  for (int i = 0; i < kLanes; ++i) values.at[i] = ToFloat32(pack.at[i]);
  return values;
}

template <typename T, int kLanes>
MOE_HOST_DEVICE inline void Store(const Floats<kLanes>& values, T* to) {
  Pack<kLanes, T> pack;
  for (int i = 0; i < kLanes; ++i) FromFloat32(values.at[i], pack.at[i]);
  *reinterpret_cast<Pack<kLanes, T>*>(to) = pack;
}

// Calls body(lanes, column) for this member's share of the columns [0, count): four at a time where
// they divide into fours, as `lanes` says, a std::integral_constant. Rows then begin at multiples
// of four elements, so that a GPU loads up to 16 bytes at once.
template <typename Team, typename Body>
MOE_HOST_DEVICE inline void ForColumns(const Team& team, int64_t count, const Body& body) {
  if (count % 4 == 0) {
    for (int64_t c = 4 * team.rank(); c < count; c += 4 * team.size()) {
      body(std::integral_constant<int, 4>(), c);
    }
  } else {
    for (int64_t c = team.rank(); c < count; c += team.size()) {
      body(std::integral_constant<int, 1>(), c);
    }
  }
}

// Whether `Kernel` works on either element type.
template <typename Kernel>
concept HasElementType = requires(const Kernel& kernel) {
  kernel.type;
};

// So many parts of at most `most` make `count`.
MOE_HOST_DEVICE constexpr int64_t PartsOf(int64_t count, int64_t most) {
  return (count + most - 1) / most;
}

}  // namespace moe::kernels::device
