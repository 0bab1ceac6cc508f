// The rules of each kind of job: defaults are filled in, limits checked, and what is known of the
// output is stated. One file per kind.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "coordinator/spec/checker.h"
#include "coordinator/spec/inputs.h"
#include "moe/v1/job_spec.pb.h"

namespace moe::coordinator {

constexpr int64_t kDefaultSeed = 1227;
const std::vector<std::string>& ComputeDtypes();
const std::vector<std::string>& WhichWeights();

void CheckPrepare(Checker& check, const Inputs& inputs, v1::PrepareSpec& spec, ThingFacts& output);
void CheckConstruct(Checker& check, const Inputs& inputs, v1::ConstructSpec& spec,
                    ThingFacts& output);
void CheckTrain(Checker& check, const Inputs& inputs, int32_t slots, v1::TrainSpec& spec,
                ThingFacts& output);
void CheckFinetune(Checker& check, const Inputs& inputs, int32_t slots, v1::TrainSpec& spec,
                   ThingFacts& output);
void CheckEvaluate(Checker& check, const Inputs& inputs, v1::EvaluateSpec& spec);
void CheckExport(Checker& check, const Inputs& inputs, v1::ExportSpec& spec, ThingFacts& output);

}  // namespace moe::coordinator
