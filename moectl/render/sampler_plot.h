// The journal of domain weights as a picture: weights and losses over tokens, in SVG.
#pragma once

#include <string>

#include "moe/v1/sampler_service.pb.h"

namespace moe::moectl {

// Three panels with one line per domain: the weights in force, as steps, from the weights of the
// job on; the held-out losses; and their excess over the references. Each line says in its
// attributes `class` and `data-domain` what it is. The journal is not empty.
std::string PlotDecisions(const moe::v1::ListDecisionsResponse& journal);

}  // namespace moe::moectl
