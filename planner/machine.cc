#include "planner/machine.h"

namespace moe::planner {

std::optional<Machine> NamedMachine(const std::string& name) {
  if (name != "h100") return std::nullopt;
  return Machine{.name = "h100, assumed",
                 .bf16 = {.dense_flops = 680e12,
                          .expert_flops = 550e12,
                          .attention_flops = 430e12,
                          .head_flops = 680e12},
                 .fp32 = {.dense_flops = 50e12,
                          .expert_flops = 40e12,
                          .attention_flops = 30e12,
                          .head_flops = 50e12},
                 .has_bf16 = true,
                 .memory_bytes_per_s = 3.0e12,
                 // Of a ring through machines with 8 GPUs and a link of 50 GB/s for each of them:
                 // most of what a rank sends stays inside. NCCL is reported to gather 2 GB with
                 // 200 GB/s between 256 of them (NVIDIA/nccl issue 1218), more with more.
                 .link_bytes_per_s = 200e9,
                 .memory_bytes = 80'000'000'000,
                 .process_bytes = 1'000'000'000,
                 .is_measured = true};
}

std::vector<std::string> MachineNames() { return {"h100"}; }

}  // namespace moe::planner
