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
                 .link_bytes_per_s = 50e9,
                 .memory_bytes = 80'000'000'000,
                 .process_bytes = 1'000'000'000,
                 .is_measured = true};
}

std::vector<std::string> MachineNames() { return {"h100"}; }

}  // namespace moe::planner
