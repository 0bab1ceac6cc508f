// What a job's references to artefacts mean at the moment it starts.
#pragma once

#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/catalog.h"
#include "coordinator/job_table.h"
#include "coordinator/run_spec.h"
#include "moe/v1/job.pb.h"

namespace moe::coordinator {

// By field of the spec. A name without a version means what a job of the same pipeline made of that
// name, else the newest in the catalogue. NOT_FOUND where an artefact has gone.
absl::StatusOr<std::map<std::string, ResolvedInput>> ResolveInputs(const v1::Job& job,
                                                                   JobTable& jobs,
                                                                   const Catalog& catalog);
// That the dataset was made with the vocabulary of the models.
absl::Status CheckInputs(const std::map<std::string, ResolvedInput>& inputs);

}  // namespace moe::coordinator
