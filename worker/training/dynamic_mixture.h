// Domain weights that change while a run goes on: measures the losses on held-out text, asks for
// new weights, and tells the sample sequence of them.
//
// Every rank makes the same calls; rank 0 asks, and all apply what it was told. What was decided is
// never asked for again, so a run that goes on after a crash draws what it drew before.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "common/run_channel.h"
#include "sampler/dataset.h"
#include "sampler/sample_sequence.h"
#include "worker/evaluation/perplexity.h"
#include "worker/model/model.h"
#include "worker/parallel/communicator.h"

namespace moe::training {

// moe.v1.DomainLosses: what a decision is asked for with.
struct DomainLossReport {
  struct Domain {
    std::string name;
    double loss = 0;    // nats per token, language-model loss alone
    double weight = 0;  // in force
    double epochs = 0;
  };
  int64_t step = 0;         // after which it was measured
  int64_t tokens = 0;       // consumed
  int64_t version = 0;      // of the weights in force
  int64_t next_sample = 0;  // global index
  std::vector<Domain> domains;
};
Json ToJson(const DomainLossReport& report);

struct WeightDecision {
  int64_t version = 0;
  int64_t step = 0;             // after which was measured
  int64_t first_sample = 0;     // global index of the first sample drawn with the weights
  std::vector<double> weights;  // per domain of the dataset; 0 outside of the mixture
};

// Who decides: the coordinator in moe-rank, a function in tests.
class DecisionSource {
 public:
  virtual ~DecisionSource() = default;
  // Blocks until there is a decision; rank 0 only. CANCELLED where a stop was asked for.
  virtual absl::StatusOr<WeightDecision> Decide(const DomainLossReport& report) = 0;
};

struct DynamicMixtureOptions {
  int64_t interval_steps = 0;  // between decisions; 0: the weights never change
  int64_t heldout_samples = 16;
  std::vector<WeightDecision> decided;  // by earlier attempts, in order
};

class DynamicMixture {
 public:
  // Collaborators outlive this.
  struct Collaborators {
    model::Model& model;
    const sampler::Dataset& dataset;
    sampler::SampleSequence& sequence;  // at its start; gets every decision
    parallel::Communicator& communicator;
    DecisionSource* source;  // nullptr where interval_steps is 0
  };

  // `measure`: which held-out text is read; options.heldout_samples of each domain.
  // std::invalid_argument where a decision does not fit the sequence, or a domain of the mixture
  // has no held-out sample of that length.
  DynamicMixture(DynamicMixtureOptions options, const evaluation::PerplexityOptions& measure,
                 Collaborators collaborators);

  // To be called after `step`, before the next one is drawn. Where a decision is due and not there
  // yet, measures and waits for it. Returns why to stop, the same on all ranks: where the wait was
  // cancelled, what `stop_requested` says on rank 0. NonFiniteLoss where a loss is not finite.
  StopReason Update(int64_t step, int64_t tokens,
                    const std::function<StopReason()>& stop_requested);

  // Whether Update after `step` will measure.
  bool IsDue(int64_t step) const;

  // The decision that a sample is drawn under; 0 for the weights of the job.
  int64_t VersionAt(int64_t sample) const;

 private:
  // Mean loss per domain of the dataset; NaN where the domain is not of the mixture. The same bits
  // on every rank and for any number of ranks.
  std::vector<double> Measure();
  DomainLossReport ReportOf(int64_t step, int64_t tokens, const std::vector<double>& losses) const;
  void Apply(const WeightDecision& decision);

  const DynamicMixtureOptions options_;
  const evaluation::PerplexityOptions measure_;
  const Collaborators with_;
  std::vector<WeightDecision> decided_;
};

}  // namespace moe::training
