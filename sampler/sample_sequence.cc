#include "sampler/sample_sequence.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "common/philox.h"
#include "common/status.h"

namespace moe::sampler {
namespace {

// Draws are recorded in the results of runs: changing anything below changes every data order.
constexpr uint32_t kFeistelRounds = 8;

// Where item `index` of `size` goes in the permutation of (seed, domain, epoch): a Feistel network
// over Z_a x Z_b, a * b >= size, walked until it lands below size (Black and Rogaway, "Ciphers with
// arbitrary finite domains", 2002). a and b are about sqrt(size), so a second step is rare, and any
// item of any epoch costs the same few draws without a table.
int64_t Permute(uint64_t seed, uint32_t domain, int64_t epoch, int64_t size, int64_t index) {
  const uint64_t n = static_cast<uint64_t>(size);
  uint64_t a = static_cast<uint64_t>(std::sqrt(static_cast<double>(n)));
  while (a * a < n) ++a;
  const uint64_t b = (n + a - 1) / a;
  const std::array<uint32_t, 4> key_words =
      Philox(seed, RandomStream::kSampleShuffle, domain, static_cast<uint64_t>(epoch));
  const uint64_t key = uint64_t{key_words[0]} << 32 | key_words[1];

  uint64_t x = static_cast<uint64_t>(index);
  do {
    uint64_t left = x % a, right = x / a;
    for (uint32_t round = 0; round < kFeistelRounds; ++round) {
      // Even rounds change `left`, odd ones `right`, each by a function of the other.
      uint64_t& changed = round % 2 == 0 ? left : right;
      const uint64_t other = round % 2 == 0 ? right : left;
      const uint64_t modulus = round % 2 == 0 ? a : b;
      const std::array<uint32_t, 4> words =
          Philox4x32({static_cast<uint32_t>(other), static_cast<uint32_t>(other >> 32), round,
                      static_cast<uint32_t>(RandomStream::kSampleShuffle)},
                     key);
      changed = (changed + (uint64_t{words[0]} << 32 | words[1]) % modulus) % modulus;
    }
    x = left + a * right;
  } while (x >= n);
  return static_cast<int64_t>(x);
}

// The mixtures of the literature, as published. LLaMA-1: Touvron et al. 2023, table 1. Sheared: the
// final weights of Sheared LLaMA (Xia et al. 2023) as LLaMA-MoE uses them.
struct PresetWeight {
  const char* domain;
  double llama1;
  double sheared;
};
constexpr PresetWeight kPresets[] = {
    {"commoncrawl", 0.67, 0.361},  {"c4", 0.15, 0.492},     {"github", 0.045, 0.008},
    {"wikipedia", 0.045, 0.031},   {"books", 0.045, 0.091}, {"arxiv", 0.025, 0.007},
    {"stackexchange", 0.02, 0.01},
};

}  // namespace

absl::StatusOr<SampleSequence> SampleSequence::Create(uint64_t seed, std::vector<Domain> domains) {
  if (domains.empty()) return InvalidArgument("the mixture has no domains; name at least one");
  SampleSequence sequence;
  sequence.seed_ = seed;
  sequence.domains_ = std::move(domains);
  WeightChange start;
  for (const Domain& domain : sequence.domains_) start.weights.push_back(domain.weight);
  MOE_ASSIGN_OR_RETURN(Phase phase, sequence.MakePhase(start));
  sequence.phases_.push_back(std::move(phase));
  sequence.cursor_.domain_samples.assign(sequence.domains_.size(), 0);
  return sequence;
}

absl::StatusOr<SampleSequence::Phase> SampleSequence::MakePhase(const WeightChange& change) const {
  if (change.weights.size() != domains_.size()) {
    return InvalidArgument("there are {} weights for {} domains", change.weights.size(),
                           domains_.size());
  }
  double total = 0;
  size_t last_drawn = 0;
  for (size_t i = 0; i < domains_.size(); ++i) {
    const double weight = change.weights[i];
    if (!std::isfinite(weight) || weight < 0) {
      return InvalidArgument("the weight of domain {} is {}; it must be finite and at least 0",
                             domains_[i].name, weight);
    }
    if (weight == 0) continue;
    if (domains_[i].num_samples <= 0) {
      return InvalidArgument(
          "domain {} has weight {} but not one whole sample; add text, shorten sequence_length or "
          "leave the domain out",
          domains_[i].name, weight);
    }
    total += weight;
    last_drawn = i;
  }
  if (total == 0) return InvalidArgument("every domain of the mixture has weight 0");
  if (!std::isfinite(total)) return InvalidArgument("the sum of the mixture's weights overflows");

  Phase phase;
  phase.first_index = change.first_index;
  double sum = 0;
  for (size_t i = 0; i < domains_.size(); ++i) {
    sum += change.weights[i];
    phase.weights.push_back(change.weights[i] / total);
    // Exactly 1 from the last domain that can be drawn, whatever rounding did to the sum.
    phase.cumulative.push_back(i >= last_drawn ? 1.0 : std::min(sum / total, 1.0));
  }
  return phase;
}

absl::Status SampleSequence::ChangeWeights(const WeightChange& change) {
  if (change.first_index < cursor_.next_index || change.first_index <= phases_.back().first_index) {
    return InvalidArgument(
        "weights cannot change from sample {} on: the sequence is at {} and the change before is "
        "at {}",
        change.first_index, cursor_.next_index, phases_.back().first_index);
  }
  MOE_ASSIGN_OR_RETURN(Phase phase, MakePhase(change));
  phases_.push_back(std::move(phase));
  return absl::OkStatus();
}

const SampleSequence::Phase& SampleSequence::PhaseAt(int64_t index) const {
  const auto after =
      std::upper_bound(phases_.begin(), phases_.end(), index,
                       [](int64_t i, const Phase& phase) { return i < phase.first_index; });
  return *(after - 1);
}

std::vector<double> SampleSequence::Epochs() const {
  std::vector<double> epochs;
  for (size_t i = 0; i < domains_.size(); ++i) {
    const int64_t size = domains_[i].num_samples;
    epochs.push_back(
        size == 0 ? 0 : static_cast<double>(cursor_.domain_samples[i]) / static_cast<double>(size));
  }
  return epochs;
}

SampleRef SampleSequence::Next() {
  const std::array<uint32_t, 4> words =
      Philox(seed_, RandomStream::kDomainChoice, 0, static_cast<uint64_t>(cursor_.next_index));
  const double u = UniformDouble(words[0], words[1]);
  const std::vector<double>& cumulative = PhaseAt(cursor_.next_index).cumulative;
  const size_t domain = static_cast<size_t>(
      std::upper_bound(cumulative.begin(), cumulative.end(), u) - cumulative.begin());
  const int64_t drawn = cursor_.domain_samples[domain]++;
  ++cursor_.next_index;
  const int64_t size = domains_[domain].num_samples;
  SampleRef ref;
  ref.domain = static_cast<int32_t>(domain);
  ref.epoch = drawn / size;
  ref.sample = Permute(seed_, static_cast<uint32_t>(domain), ref.epoch, size, drawn % size);
  return ref;
}

absl::Status SampleSequence::Seek(const Cursor& cursor) {
  if (cursor.domain_samples.size() != domains_.size()) {
    return InvalidArgument("the data cursor is of {} domains and the mixture has {}",
                           cursor.domain_samples.size(), domains_.size());
  }
  int64_t sum = 0;
  for (size_t i = 0; i < domains_.size(); ++i) {
    const int64_t drawn = cursor.domain_samples[i];
    if (drawn < 0 || drawn > cursor.next_index - sum) {
      return InvalidArgument(
          "the data cursor's {} samples of domain {} do not fit its {} samples in all", drawn,
          domains_[i].name, cursor.next_index);
    }
    const bool ever_drawn = std::any_of(phases_.begin(), phases_.end(), [&](const Phase& phase) {
      return phase.weights[i] > 0 && phase.first_index < cursor.next_index;
    });
    if (drawn > 0 && !ever_drawn) {
      return InvalidArgument("the data cursor has {} samples of domain {}, whose weight is 0",
                             drawn, domains_[i].name);
    }
    sum += drawn;
  }
  if (sum != cursor.next_index) {
    return InvalidArgument("the data cursor's counts add up to {}, and its next index is {}", sum,
                           cursor.next_index);
  }
  cursor_ = cursor;
  return absl::OkStatus();
}

absl::StatusOr<std::vector<double>> MixturePreset(const std::string& preset,
                                                  const std::vector<std::string>& domains) {
  double PresetWeight::*column = nullptr;
  if (preset == "llama1") {
    column = &PresetWeight::llama1;
  } else if (preset == "sheared") {
    column = &PresetWeight::sheared;
  } else if (preset != "uniform") {
    return NotFound("no mixture preset '{}'; known are llama1, sheared, uniform", preset);
  }
  std::vector<double> weights(domains.size(), column == nullptr ? 1.0 : 0.0);
  if (column != nullptr) {
    for (size_t i = 0; i < domains.size(); ++i) {
      for (const PresetWeight& entry : kPresets) {
        if (domains[i] == entry.domain) weights[i] = entry.*column;
      }
    }
  }
  const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  if (total == 0) {
    return InvalidArgument(
        "mixture preset '{}' names none of the {} domains of the dataset; give a table of weights",
        preset, domains.size());
  }
  for (double& weight : weights) weight /= total;
  return weights;
}

}  // namespace moe::sampler
