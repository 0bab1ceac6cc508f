// The journal of domain weights as a picture: weights and losses over tokens, in SVG.
#pragma once

#include <string>

#include "moe/v1/sampler_service.pb.h"

namespace moe::moectl {

// Two panels with one line per domain: the weights in force, as steps, from the weights of the job
// on; and the excess of the held-out loss over the reference. The journal is not empty.
std::string PlotDecisions(const moe::v1::ListDecisionsResponse& journal);

}  // namespace moe::moectl
