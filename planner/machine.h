// What one slot of a machine can do, as measured (worker/rank/probe.h) or as assumed. Pure.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace moe::planner {

// Rates in one type to compute in. All per second, of forward and backward together.
struct ComputeRates {
  double dense_flops = 0;      // matrix products that all tokens of a micro-batch meet
  double expert_flops = 0;     // a layer's experts, with their gate
  double attention_flops = 0;  // causal attention
  double head_flops = 0;       // the output matrix and the loss
  // How much longer a pass through a whole model takes than these say of its parts, whose operands
  // have just been used.
  double pass_ratio = 1;
};

struct Machine {
  std::string name;  // "slot of w1, measured"
  ComputeRates bf16, fp32;
  bool has_bf16 = false;          // where not, bf16 jobs compute in fp32
  double memory_bytes_per_s = 0;  // read and written by the optimizer
  double link_bytes_per_s = 0;    // that a rank sends while it receives as many
  double overlap = 1;             // share of the time beside which it can send that it does send
  int64_t memory_bytes = 0;       // that a rank may use; 0: not known
  int64_t process_bytes = 0;      // of a rank with its libraries and nothing else
  bool is_measured = false;       // rates are known
};

// A machine by name; nullopt where there is none of this name. "h100": published figures of one
// H100 with 80 GB, and rates that a good implementation reaches on it; assumed, never measured
// here.
std::optional<Machine> NamedMachine(const std::string& name);
std::vector<std::string> MachineNames();

}  // namespace moe::planner
