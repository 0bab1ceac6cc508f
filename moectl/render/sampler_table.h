// The journal of domain weights, for people.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "common/term/table.h"
#include "moe/v1/sampler_service.pb.h"

namespace moe::moectl {

// What the sampler holds and does next, and the newest weights.
std::string RenderSampler(const moe::v1::GetSamplerResponse& sampler,
                          const term::TableLayout& layout);
// One row per decision, one column per domain.
std::string RenderDecisions(const moe::v1::ListDecisionsResponse& journal,
                            const term::TableLayout& layout);
// The weights of two versions side by side; 0 is what the job started with. NOT_FOUND where the
// journal lacks one.
absl::StatusOr<std::string> RenderDiff(const moe::v1::ListDecisionsResponse& journal, int64_t from,
                                       int64_t to, const term::TableLayout& layout);
// One line per decision and domain, all digits; with a line of titles.
std::string DecisionsCsv(const moe::v1::ListDecisionsResponse& journal);

}  // namespace moe::moectl
