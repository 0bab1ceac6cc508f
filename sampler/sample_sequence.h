// Which sample comes next: the global order of the training data.
//
// Sample number g of a run is a pure function of (domains, seed, weight history, g): a
// counter-based draw chooses the domain with the weights in force at g, and within a domain samples
// come in a seeded permutation, each once per epoch. Ranks, threads and restarts have no part in
// it. Pure: no I/O, no clock.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace moe::sampler {

struct SampleRef {
  int32_t domain = 0;
  int64_t epoch = 0;   // from 0
  int64_t sample = 0;  // index in the domain, for Dataset::ReadSample
};

class SampleSequence {
 public:
  struct Domain {
    std::string name;
    int64_t num_samples = 0;
    double weight = 0;  // share of the samples; the weights need not sum to 1
  };
  // Weights that hold from a sample on, until the next change.
  struct WeightChange {
    int64_t first_index = 0;      // global index of the first sample drawn with them
    std::vector<double> weights;  // per domain; need not sum to 1
  };
  // Where a sequence is: restores it with Seek.
  struct Cursor {
    int64_t next_index = 0;               // global index of the next sample
    std::vector<int64_t> domain_samples;  // drawn so far, per domain
  };

  // INVALID_ARGUMENT: no domains, a domain with weight but without a whole sample, a weight that is
  // negative or not finite, all weights zero.
  static absl::StatusOr<SampleSequence> Create(uint64_t seed, std::vector<Domain> domains);

  // Adds a change to the weight history. Changes come in order, and none may rewrite the past:
  // INVALID_ARGUMENT where first_index is before the cursor or not after the change before, and
  // where the weights are wrong as in Create.
  absl::Status ChangeWeights(const WeightChange& change);

  SampleRef Next();
  const Cursor& cursor() const { return cursor_; }
  // Continues at a cursor that was taken from a sequence with the same history up to there; the
  // cost does not depend on how far that is. INVALID_ARGUMENT where the cursor is not one of this
  // sequence (wrong number of domains, counts that do not add up to next_index, samples of a domain
  // that never had a weight).
  absl::Status Seek(const Cursor& cursor);

  const std::vector<Domain>& domains() const { return domains_; }  // with the first weights
  // The weights in force at a global index, scaled to sum to 1.
  const std::vector<double>& WeightsAt(int64_t index) const { return PhaseAt(index).weights; }
  // How often each domain has been gone through at the cursor; 0 for a domain without samples.
  std::vector<double> Epochs() const;

 private:
  struct Phase {
    int64_t first_index = 0;
    std::vector<double> weights;     // scaled to sum to 1
    std::vector<double> cumulative;  // exactly 1 from the last domain with weight on
  };

  SampleSequence() = default;
  absl::StatusOr<Phase> MakePhase(const WeightChange& change) const;
  const Phase& PhaseAt(int64_t index) const;

  uint64_t seed_ = 0;
  std::vector<Domain> domains_;
  std::vector<Phase> phases_;  // ascending; the first begins at 0
  Cursor cursor_;
};

// "llama1", "sheared" or "uniform" as weights for `domains`, in their order, scaled to sum to 1.
// Domains that the preset does not name get none; "uniform" names all. NOT_FOUND names the known
// presets; INVALID_ARGUMENT where the preset names none of the domains.
absl::StatusOr<std::vector<double>> MixturePreset(const std::string& preset,
                                                  const std::vector<std::string>& domains);

}  // namespace moe::sampler
