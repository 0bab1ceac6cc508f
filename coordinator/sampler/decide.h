// One decision of the domain-weight sampler, and its repetition. Functions of records alone: no
// store, no clock.
#pragma once

#include <google/protobuf/struct.pb.h>

#include <map>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "moe/v1/job_spec.pb.h"
#include "moe/v1/sampler.pb.h"

namespace moe::coordinator {

// Oldest first; versions 1, 2, 3, ...
using Journal = std::vector<v1::SamplerDecision>;

// The decision that follows `journal` from what was measured: pinned weights before a rollback
// before the rule. Without `attempt` and `time`, which it does not depend on. INVALID_ARGUMENT
// names the domain where a reference loss or a pinned weight is missing or a number is not usable;
// FAILED_PRECONDITION where the rank does not draw with the weights that the journal ends with.
absl::StatusOr<v1::SamplerDecision> Decide(const v1::DynamicMixture& spec,
                                           const v1::SamplerState& state, const Journal& journal,
                                           const v1::DomainLosses& measured);

// Weights of `version` in the order of the decisions' domains; 0 is what the job started with.
// The journal has that version, and is not empty.
std::vector<double> WeightsOf(const Journal& journal, int64_t version);

// Computes every decision again from its recorded inputs. A sentence for each that does not come
// out to the same bits or does not follow from the one before.
std::vector<std::string> Replay(const Journal& journal);

// The loss of each domain that an evaluate job's report has for `label`, or for its first model
// where `label` is empty. NOT_FOUND names the labels that there are; INVALID_ARGUMENT where it has
// no losses.
absl::StatusOr<std::map<std::string, double>> ReferenceLosses(
    const google::protobuf::Struct& report, const std::string& label);

}  // namespace moe::coordinator
