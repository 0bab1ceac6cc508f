// Arrays: several jobs in one spec, which differ in some fields (JobSpec.array). Pure.
#pragma once

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "moe/v1/job_spec.pb.h"

namespace moe::coordinator {

// Fills in how many elements there are, and checks that every field of every element can be set.
// INVALID_ARGUMENT says which field and which value; without the job's name.
absl::Status CompleteArray(v1::JobSpec* spec);

// The spec of element `index`, as a user would have given it: "sweep" becomes "sweep-3", and what
// it makes likewise. Of an array that is complete.
v1::JobSpec ElementOf(const v1::JobSpec& spec, int32_t index);

}  // namespace moe::coordinator
