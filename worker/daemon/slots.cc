#include "worker/daemon/slots.h"

#include <sched.h>
#include <unistd.h>

#include <cerrno>

#include "common/status.h"

namespace moe::worker {

absl::StatusOr<std::vector<v1::Slot>> DetectSlots(const SlotOptions& options) {
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) != 0) {
    return ErrnoStatus(errno, "cannot ask which cores this process may use");
  }
  const int cores = CPU_COUNT(&allowed);
  if (options.cpu_slots < 1 || (options.threads_per_slot == 0 && options.cpu_slots > cores)) {
    return InvalidArgument(
        "--cpu-slots={}: use 1 to {}, the cores this process may use, or give --threads-per-slot",
        options.cpu_slots, cores);
  }
  if (options.threads_per_slot < 0) {
    return InvalidArgument("--threads-per-slot={}: use 1 or more, or 0 for {} cores / --cpu-slots",
                           options.threads_per_slot, cores);
  }
  const int64_t memory_bytes =
      static_cast<int64_t>(::sysconf(_SC_PHYS_PAGES)) * ::sysconf(_SC_PAGE_SIZE);
  std::vector<v1::Slot> slots;
  for (int index = 0; index < options.cpu_slots; ++index) {
    v1::Slot slot;
    slot.set_index(index);
    slot.set_device("cpu");
    slot.set_threads(options.threads_per_slot > 0 ? options.threads_per_slot
                                                  : cores / options.cpu_slots);
    slot.set_memory_bytes(memory_bytes / options.cpu_slots);
    slots.push_back(std::move(slot));
  }
  return slots;
}

}  // namespace moe::worker
