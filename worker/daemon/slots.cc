#include "worker/daemon/slots.h"

#include <fmt/format.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "common/status.h"

namespace moe::worker {

namespace {

constexpr char kCpu[] = "cpu";

absl::StatusOr<int> UsableCores() {
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
    return ErrnoStatus(errno, "cannot ask which cores this process may use");
  }
  return CPU_COUNT(&allowed);
}

int64_t MemoryBytes() {
  return static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGE_SIZE);
}

}  // namespace

absl::StatusOr<std::vector<v1::Slot>> DetectSlots(const SlotOptions& options,
                                                  const std::vector<Gpu>& gpus) {
  MOE_ASSIGN_OR_RETURN(const int cores, UsableCores());
  const bool on_gpus = !options.cpu_slots.has_value() && !gpus.empty();
  const int count = on_gpus ? static_cast<int>(gpus.size()) : options.cpu_slots.value_or(1);
  if (count < 1 || (!on_gpus && options.threads_per_slot == 0 && count > cores)) {
    return InvalidArgument(
        "--cpu-slots={}: use 1 to {}, the cores this process may use, or give --threads-per-slot",
        count, cores);
  }
  if (options.threads_per_slot < 0) {
    return InvalidArgument("--threads-per-slot={}: use 1 or more, or 0 for {} cores / slots",
                           options.threads_per_slot, cores);
  }
  std::vector<v1::Slot> slots;
  for (int i = 0; i < count; ++i) {
    const Gpu* gpu = on_gpus ? &gpus[static_cast<size_t>(i)] : nullptr;
    v1::Slot slot;
    slot.set_index(gpu != nullptr ? gpu->number : i);
    slot.set_device(gpu != nullptr ? gpu->name : kCpu);
    slot.set_threads(options.threads_per_slot > 0 ? options.threads_per_slot
                                                  : std::max(1, cores / count));
    slot.set_memory_bytes(gpu != nullptr ? gpu->memory_bytes : MemoryBytes() / count);
    slots.push_back(std::move(slot));
  }
  return slots;
}

std::string DeviceArgument(const v1::Slot& slot) {
  return slot.device() == kCpu ? kCpu : fmt::format("gpu:{}", slot.index());
}

}  // namespace moe::worker
