// How domain weights follow losses: new weights from old ones, in double precision. Pure: plain
// structs in, plain numbers out.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"

namespace moe::coordinator {

enum class UpdateRule {
  // w' = (1 - c) softmax(ln w + loss - reference) + c / n with c = 1e-4, scaled to sum to 1:
  // dynamic
  // batch loading of Sheared LLaMA (Xia et al. 2023, algorithm 1), as its code and LLaMA-MoE's run
  // it. An excess below 0 counts, unlike in the paper's text. The published code computes in fp32.
  kSheared,
  // w' = w exp(max(0, loss - reference)), scaled to sum to 1: the text of the same paper.
  kPaper,
};

// "sheared" and "paper".
const std::vector<std::string>& UpdateRuleNames();
std::optional<UpdateRule> UpdateRuleOf(const std::string& name);

// One domain before an update.
struct DomainStanding {
  std::string domain;
  double weight = 0;          // in force, above 0; need not sum to 1
  double loss = 0;            // measured, nats per token
  double reference_loss = 0;  // to catch up with, nats per token
};

// New weights in the order of `domains`; each above 0, and they sum to 1. INVALID_ARGUMENT names a
// domain whose numbers are not finite or whose old or new weight is not above 0.
absl::StatusOr<std::vector<double>> UpdateWeights(UpdateRule rule,
                                                  const std::vector<DomainStanding>& domains);

}  // namespace moe::coordinator
