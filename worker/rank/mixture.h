// The mixture of a train job: from the run spec and the coordinator's decisions to the trainer.
#pragma once

#include "absl/status/statusor.h"
#include "common/run_channel.h"
#include "sampler/dataset.h"
#include "sampler/sample_sequence.h"
#include "worker/rank/run_spec.h"
#include "worker/training/dynamic_mixture.h"

namespace moe::rank {

// The order of the samples, with the weights that the job starts with. INVALID_ARGUMENT where the
// spec names a domain that the dataset lacks, or as SampleSequence::Create.
absl::StatusOr<sampler::SampleSequence> MakeSequence(const TrainSpec& spec,
                                                     const sampler::Dataset& dataset,
                                                     const Input& dataset_input);

// What changes the weights later on. INVALID_ARGUMENT where a domain of the mixture has no
// reference loss.
absl::StatusOr<training::DynamicMixtureOptions> ToDynamicOptions(
    const TrainSpec& spec, const RunSpec& run, const sampler::SampleSequence& sequence);

// Asks the coordinator, through the run channel.
class ChannelDecisions final : public training::DecisionSource {
 public:
  // Both outlive this; `sequence` is only asked for its domains.
  ChannelDecisions(RunChannel& channel, const sampler::SampleSequence& sequence)
      : channel_(channel), sequence_(sequence) {}

  absl::StatusOr<training::WeightDecision> Decide(
      const training::DomainLossReport& report) override;

 private:
  RunChannel& channel_;
  const sampler::SampleSequence& sequence_;
};

}  // namespace moe::rank
