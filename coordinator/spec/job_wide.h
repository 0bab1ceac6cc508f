// The fields that jobs of every kind have.
#pragma once

#include "coordinator/job_spec.h"
#include "coordinator/spec/checker.h"

namespace moe::coordinator {

// Fills defaults and refuses bad values of everything but the kind and the dependencies.
void CheckJobWide(Checker& check, const SpecFacts& facts, v1::JobSpec& spec);

}  // namespace moe::coordinator
