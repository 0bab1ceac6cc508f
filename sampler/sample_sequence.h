// Which sample comes next: the global order of the training data.
//
// Sample number g of a run is a pure function of (domains, seed, weights, g): a counter-based draw
// chooses the domain, and within a domain samples come in a seeded permutation, each once per
// epoch. Ranks, threads and restarts have no part in it. Pure: no I/O, no clock.
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
  // Where a sequence is: restores it with Seek.
  struct Cursor {
    int64_t next_index = 0;               // global index of the next sample
    std::vector<int64_t> domain_samples;  // drawn so far, per domain
  };

  // INVALID_ARGUMENT: no domains, a domain with weight but without a whole sample, a weight that is
  // negative or not finite, all weights zero.
  static absl::StatusOr<SampleSequence> Create(uint64_t seed, std::vector<Domain> domains);

  SampleRef Next();
  const Cursor& cursor() const { return cursor_; }
  // INVALID_ARGUMENT where the cursor is not one of this sequence (wrong number of domains, counts
  // that do not add up to next_index).
  absl::Status Seek(const Cursor& cursor);

 private:
  SampleSequence() = default;
  uint64_t seed_ = 0;
  std::vector<Domain> domains_;
  std::vector<double> cumulative_;  // normalised
  Cursor cursor_;
};

// "llama1", "sheared" or "uniform" as weights for `domains`, in their order, scaled to sum to 1.
// Domains that the preset does not name get none; "uniform" names all. NOT_FOUND names the known
// presets; INVALID_ARGUMENT where the preset names none of the domains.
absl::StatusOr<std::vector<double>> MixturePreset(const std::string& preset,
                                                  const std::vector<std::string>& domains);

}  // namespace moe::sampler
