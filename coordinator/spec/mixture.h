// The rules of a train job's mixture, static or dynamic.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/spec/checker.h"
#include "coordinator/spec/inputs.h"
#include "moe/v1/job_spec.pb.h"

namespace moe::coordinator {

// `domains` are the dataset's, empty where not known; `tokens_per_step` is above 0.
void CheckMixture(Checker& check, const Inputs& inputs, const std::vector<std::string>& domains,
                  int64_t tokens_per_step, v1::Mixture& spec);

}  // namespace moe::coordinator
