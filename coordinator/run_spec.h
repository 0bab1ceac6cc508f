// run.json: what an attempt is to do (docs/formats/run-folder.md).
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "common/json.h"
#include "moe/v1/artefact.pb.h"
#include "moe/v1/job.pb.h"
#include "moe/v1/sampler.pb.h"

namespace moe::coordinator {

// What a job's InputRef turned out to be when the attempt started.
struct ResolvedInput {
  std::string path;
  std::optional<v1::Artefact> artefact;  // absent for a plain path
};

struct RunSpecFacts {
  int32_t world_size = 1;
  int64_t lease_ttl_ms = 0;
  std::string output_dir;
  std::string work_dir;  // of a kind that can go on where an earlier attempt was; else ""
  std::map<std::string, ResolvedInput> inputs;  // by field of the spec
  std::optional<v1::Artefact> resume;
  // Only for a dynamic mixture: by domain, and every decision so far.
  std::map<std::string, double> reference_losses = {};
  std::vector<v1::SamplerDecision> decisions = {};
};

// A decision of the sampler as ranks read it, here and in the order `mixture`.
Json DecisionJson(const v1::SamplerDecision& decision);

// The run spec of `job.attempt()`.
std::string BuildRunSpec(const v1::Job& job, const RunSpecFacts& facts);

}  // namespace moe::coordinator
