#include "sampler/sample_sequence.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "common/philox.h"
#include "common/status.h"

namespace moe::sampler {
namespace {

using Domains = std::vector<SampleSequence::Domain>;

SampleSequence Make(uint64_t seed, Domains domains) {
  auto sequence = SampleSequence::Create(seed, std::move(domains));
  EXPECT_TRUE(sequence.ok()) << ToString(sequence.status());
  return *std::move(sequence);
}

TEST(SampleSequenceTest, EachEpoch_HoldsEverySampleOnce) {
  for (uint64_t seed = 0; seed < 20; ++seed) {
    for (const int64_t size : {1, 2, 3, 7, 16, 100, 1009}) {
      SampleSequence sequence = Make(seed, {{"a", size, 1.0}});
      for (int64_t epoch = 0; epoch < 3; ++epoch) {
        std::vector<bool> seen(static_cast<size_t>(size));
        for (int64_t i = 0; i < size; ++i) {
          const SampleRef ref = sequence.Next();
          ASSERT_EQ(ref.epoch, epoch);
          ASSERT_GE(ref.sample, 0);
          ASSERT_LT(ref.sample, size);
          ASSERT_FALSE(seen[static_cast<size_t>(ref.sample)]) << "seed " << seed;
          seen[static_cast<size_t>(ref.sample)] = true;
        }
      }
    }
  }
}

// Position by sample over many seeds is a 7 x 7 table of equal counts.
TEST(SampleSequenceTest, Permutations_AreUniformOverSeeds) {
  constexpr int kSize = 7, kSeeds = 7000;
  int counts[kSize][kSize] = {};
  for (int seed = 0; seed < kSeeds; ++seed) {
    SampleSequence sequence = Make(static_cast<uint64_t>(seed), {{"a", kSize, 1.0}});
    for (int i = 0; i < kSize; ++i) ++counts[i][sequence.Next().sample];
  }
  double chi_square = 0;
  for (const auto& row : counts) {
    for (const int count : row) chi_square += std::pow(count - kSeeds / 7.0, 2) / (kSeeds / 7.0);
  }
  EXPECT_LT(chi_square, 67.985);  // 36 degrees of freedom, p = 0.001
}

TEST(SampleSequenceTest, EpochsAndDomains_HaveOrdersOfTheirOwn) {
  constexpr int64_t kSize = 50;
  SampleSequence sequence = Make(1, {{"a", kSize, 1.0}, {"b", kSize, 1.0}});
  std::map<std::pair<int, int64_t>, std::vector<int64_t>> orders;
  for (int i = 0; i < 1000; ++i) {
    const SampleRef ref = sequence.Next();
    orders[{ref.domain, ref.epoch}].push_back(ref.sample);
  }
  std::vector<std::vector<int64_t>> complete;
  for (const auto& [key, order] : orders) {
    if (order.size() == kSize) complete.push_back(order);
  }
  ASSERT_GT(complete.size(), 10u);
  std::sort(complete.begin(), complete.end());
  EXPECT_EQ(std::adjacent_find(complete.begin(), complete.end()), complete.end());
}

TEST(SampleSequenceTest, Mixture_FollowsTheWeights) {
  const std::vector<double> weights = {0.67, 0.15, 0.045, 0.045, 0.045, 0.025, 0.02};
  constexpr int kDraws = 20000;
  int rejected = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    Domains domains;
    for (const double weight : weights) domains.push_back({"d", 100, 10 * weight});
    SampleSequence sequence = Make(seed, domains);
    std::vector<int> counts(weights.size());
    for (int i = 0; i < kDraws; ++i) ++counts[static_cast<size_t>(sequence.Next().domain)];
    double chi_square = 0;
    for (size_t i = 0; i < weights.size(); ++i) {
      const double expected = kDraws * weights[i];
      chi_square += std::pow(counts[i] - expected, 2) / expected;
    }
    if (chi_square > 12.592) ++rejected;  // 6 degrees of freedom, p = 0.05
  }
  EXPECT_LE(rejected, 4);  // of 20; one is expected
}

TEST(SampleSequenceTest, DomainOfWeightZero_IsNeverDrawn) {
  SampleSequence sequence =
      Make(3, {{"zero", 5, 0}, {"a", 5, 0.1}, {"empty", 0, 0}, {"b", 5, 0.2}, {"last", 5, 0}});
  for (int i = 0; i < 2000; ++i) {
    const int domain = sequence.Next().domain;
    ASSERT_TRUE(domain == 1 || domain == 3);
  }
}

TEST(SampleSequenceTest, Seek_ContinuesExactlyWhereTheCursorWas) {
  const Domains domains = {{"a", 13, 0.5}, {"b", 7, 0.3}, {"c", 1, 0.2}};
  SampleSequence reference = Make(42, domains);
  std::vector<SampleSequence::Cursor> cursors;
  std::vector<SampleRef> drawn;
  for (int i = 0; i < 300; ++i) {
    cursors.push_back(reference.cursor());
    drawn.push_back(reference.Next());
  }
  for (size_t start = 0; start < 300; start += 7) {
    SampleSequence resumed = Make(42, domains);
    ASSERT_TRUE(resumed.Seek(cursors[start]).ok());
    for (size_t i = start; i < 300; ++i) {
      const SampleRef ref = resumed.Next();
      ASSERT_EQ(ref.domain, drawn[i].domain);
      ASSERT_EQ(ref.epoch, drawn[i].epoch);
      ASSERT_EQ(ref.sample, drawn[i].sample);
    }
  }
}

TEST(SampleSequenceTest, Seek_CursorOfAnotherSequence_IsRefused) {
  SampleSequence sequence = Make(1, {{"a", 5, 1}, {"b", 5, 1}, {"off", 5, 0}});
  EXPECT_FALSE(sequence.Seek({.next_index = 3, .domain_samples = {1, 2}}).ok());
  EXPECT_FALSE(sequence.Seek({.next_index = 3, .domain_samples = {1, 1, 0}}).ok());
  EXPECT_FALSE(sequence.Seek({.next_index = 3, .domain_samples = {5, -2, 0}}).ok());
  EXPECT_FALSE(sequence.Seek({.next_index = 3, .domain_samples = {1, 1, 1}}).ok());
  EXPECT_EQ(sequence.cursor().next_index, 0);
  EXPECT_TRUE(sequence.Seek({.next_index = 3, .domain_samples = {1, 2, 0}}).ok());
}

TEST(SampleSequenceTest, Create_ImpossibleMixture_IsRefusedNamingTheDomain) {
  EXPECT_FALSE(SampleSequence::Create(1, {}).ok());
  EXPECT_FALSE(SampleSequence::Create(1, {{"a", 5, 0}}).ok());
  EXPECT_FALSE(SampleSequence::Create(1, {{"a", 5, -1}}).ok());
  EXPECT_FALSE(SampleSequence::Create(1, {{"a", 5, std::nan("")}}).ok());
  const auto empty = SampleSequence::Create(1, {{"a", 5, 1}, {"books", 0, 1}});
  ASSERT_FALSE(empty.ok());
  EXPECT_NE(Message(empty.status()).find("books"), std::string::npos);
}

// The order of a run is part of its results: a change here makes every old run unrepeatable.
TEST(SampleSequenceTest, Order_StaysAsItIs) {
  SampleSequence sequence = Make(1227, {{"a", 1000, 0.7}, {"b", 10, 0.3}});
  std::string text;
  for (int i = 0; i < 12; ++i) {
    const SampleRef ref = sequence.Next();
    text += (ref.domain == 0 ? "a" : "b") + std::to_string(ref.sample) + " ";
  }
  EXPECT_EQ(text, "a101 a627 b8 b0 b9 a560 b7 b6 b4 a343 a819 a578 ");
}

// A history of weights over three domains: changes at random moments, now and then to 0.
std::vector<SampleSequence::WeightChange> RandomHistory(PhiloxGenerator& random, int64_t length) {
  std::vector<SampleSequence::WeightChange> history;
  int64_t at = 0;
  while ((at += 1 + static_cast<int64_t>(random.Below(60))) < length) {
    history.push_back({.first_index = at,
                       .weights = {0.1 + random.Below(10), static_cast<double>(random.Below(3)),
                                   static_cast<double>(random.Below(10))}});
  }
  return history;
}

bool Same(const SampleRef& a, const SampleRef& b) {
  return a.domain == b.domain && a.epoch == b.epoch && a.sample == b.sample;
}

// A run is stopped anywhere, goes on with another number of ranks, and learns of each change only
// when it gets there; the samples are those of a run that knew everything and never stopped.
TEST(SampleSequenceTest, RunsStoppedAnywhereOnAnyWorldSize_ReadTheUndisturbedSequence) {
  constexpr int64_t kBatch = 4, kSteps = 100, kLength = kBatch * kSteps;
  const Domains domains = {{"a", 13, 0.5}, {"b", 7, 0.3}, {"c", 101, 0.2}};
  for (uint64_t seed = 0; seed < 300; ++seed) {
    PhiloxGenerator random(seed, RandomStream::kTest, 1);
    std::vector<SampleSequence::WeightChange> history = RandomHistory(random, kLength);
    for (auto& change : history) change.first_index = change.first_index / kBatch * kBatch + kBatch;
    history.erase(
        std::unique(history.begin(), history.end(),
                    [](const auto& x, const auto& y) { return x.first_index == y.first_index; }),
        history.end());
    SampleSequence undisturbed = Make(seed, domains);
    for (const auto& change : history) ASSERT_TRUE(undisturbed.ChangeWeights(change).ok());
    std::vector<SampleRef> expected;
    for (int64_t i = 0; i < kLength; ++i) expected.push_back(undisturbed.Next());

    SampleSequence::Cursor checkpoint{.next_index = 0, .domain_samples = {0, 0, 0}};
    int64_t world_size = 1;
    while (checkpoint.next_index < kLength) {
      SampleSequence run = Make(seed, domains);
      size_t known = 0;
      for (; known < history.size() && history[known].first_index <= checkpoint.next_index;
           ++known) {
        ASSERT_TRUE(run.ChangeWeights(history[known]).ok());
      }
      ASSERT_TRUE(run.Seek(checkpoint).ok());
      // Killed some steps later; the last checkpoint is some steps before that.
      const int64_t steps = 1 + static_cast<int64_t>(random.Below(20));
      const int64_t kept = 1 + static_cast<int64_t>(random.Below(static_cast<uint64_t>(steps)));
      for (int64_t step = 0; step < steps && run.cursor().next_index < kLength; ++step) {
        const int64_t first = run.cursor().next_index;
        if (known < history.size() && history[known].first_index == first) {
          ASSERT_TRUE(run.ChangeWeights(history[known++]).ok());
        }
        std::vector<SampleRef> batch;
        for (int64_t i = 0; i < kBatch; ++i) batch.push_back(run.Next());
        for (int64_t rank = 0; rank < world_size; ++rank) {
          for (int64_t i = rank * kBatch / world_size; i < (rank + 1) * kBatch / world_size; ++i) {
            ASSERT_TRUE(
                Same(batch[static_cast<size_t>(i)], expected[static_cast<size_t>(first + i)]))
                << "seed " << seed << " sample " << first + i;
          }
        }
        if (step < kept) checkpoint = run.cursor();
      }
      world_size = world_size == 1 ? 2 : 1;
    }
  }
}

TEST(SampleSequenceTest, EpochsUnderAnyHistory_HoldEverySampleOnce) {
  const Domains domains = {{"a", 5, 1}, {"b", 17, 2}, {"c", 64, 3}};
  for (uint64_t seed = 0; seed < 200; ++seed) {
    PhiloxGenerator random(seed, RandomStream::kTest, 2);
    SampleSequence sequence = Make(seed, domains);
    for (const auto& change : RandomHistory(random, 1000)) {
      ASSERT_TRUE(sequence.ChangeWeights(change).ok());
    }
    std::map<std::pair<int, int64_t>, std::vector<int64_t>> seen;
    int64_t newest[3] = {};
    for (int i = 0; i < 1000; ++i) {
      const SampleRef ref = sequence.Next();
      ASSERT_GE(ref.epoch, newest[ref.domain]);
      newest[ref.domain] = ref.epoch;
      seen[{ref.domain, ref.epoch}].push_back(ref.sample);
    }
    const std::vector<double> epochs = sequence.Epochs();
    for (auto& [key, samples] : seen) {
      const auto [domain, epoch] = key;
      const size_t size = static_cast<size_t>(domains[static_cast<size_t>(domain)].num_samples);
      std::sort(samples.begin(), samples.end());
      ASSERT_EQ(std::adjacent_find(samples.begin(), samples.end()), samples.end())
          << "seed " << seed;
      ASSERT_EQ(samples.size() == size, epoch < static_cast<int64_t>(epochs[domain]));
    }
  }
}

// In each phase of a history the counts of the domains are those of its weights.
TEST(SampleSequenceTest, ChangedWeights_HoldFromTheirFirstSample) {
  constexpr int64_t kPhase = 20000;
  const std::vector<std::vector<double>> phases = {{0.6, 0.3, 0.1}, {0.1, 0.1, 0.8}, {1, 0, 1}};
  int rejected = 0;
  for (uint64_t seed = 0; seed < 20; ++seed) {
    SampleSequence sequence = Make(seed, {{"a", 100, 6}, {"b", 100, 3}, {"c", 100, 1}});
    for (int64_t p = 1; p < 3; ++p) {
      ASSERT_TRUE(sequence.ChangeWeights({p * kPhase, phases[static_cast<size_t>(p)]}).ok());
    }
    for (const std::vector<double>& weights : phases) {
      double sum = 0, chi_square = 0;
      for (const double weight : weights) sum += weight;
      std::vector<int> counts(3);
      for (int64_t i = 0; i < kPhase; ++i) ++counts[static_cast<size_t>(sequence.Next().domain)];
      for (size_t i = 0; i < 3; ++i) {
        const double expected = static_cast<double>(kPhase) * weights[i] / sum;
        if (expected == 0) {
          ASSERT_EQ(counts[i], 0);
        } else {
          chi_square += std::pow(counts[i] - expected, 2) / expected;
        }
      }
      if (chi_square > 5.991) ++rejected;  // 2 degrees of freedom, p = 0.05
    }
  }
  EXPECT_LE(rejected, 8);  // of 60; three are expected
}

TEST(SampleSequenceTest, ChangeWeights_OfThePastOrWithBadWeights_IsRefused) {
  SampleSequence sequence = Make(1, {{"a", 5, 1}, {"b", 5, 1}, {"empty", 0, 0}});
  for (int i = 0; i < 10; ++i) sequence.Next();
  EXPECT_FALSE(sequence.ChangeWeights({9, {1, 1, 0}}).ok());
  EXPECT_FALSE(sequence.ChangeWeights({10, {1, 1}}).ok());
  EXPECT_FALSE(sequence.ChangeWeights({10, {1, std::nan(""), 0}}).ok());
  EXPECT_FALSE(sequence.ChangeWeights({10, {1, 1, 1}}).ok());
  EXPECT_TRUE(sequence.ChangeWeights({10, {3, 1, 0}}).ok());
  EXPECT_FALSE(sequence.ChangeWeights({10, {1, 1, 0}}).ok());
  EXPECT_EQ(sequence.WeightsAt(9), (std::vector<double>{0.5, 0.5, 0}));
  EXPECT_EQ(sequence.WeightsAt(10), (std::vector<double>{0.75, 0.25, 0}));
}

TEST(MixturePresetTest, Presets_AreThePublishedTablesInTheCallersOrder) {
  const std::vector<std::string> domains = {"stackexchange", "arxiv", "books",      "wikipedia",
                                            "github",        "c4",    "commoncrawl"};
  const auto llama1 = MixturePreset("llama1", domains);
  ASSERT_TRUE(llama1.ok());
  const std::vector<double> expected_llama1 = {0.02, 0.025, 0.045, 0.045, 0.045, 0.15, 0.67};
  const auto sheared = MixturePreset("sheared", domains);
  ASSERT_TRUE(sheared.ok());
  const std::vector<double> expected_sheared = {0.01, 0.007, 0.091, 0.031, 0.008, 0.492, 0.361};
  for (size_t i = 0; i < domains.size(); ++i) {
    EXPECT_NEAR((*llama1)[i], expected_llama1[i], 1e-12);
    EXPECT_NEAR((*sheared)[i], expected_sheared[i], 1e-12);
  }
}

TEST(MixturePresetTest, MissingDomains_AreLeftOutAndTheRestIsScaled) {
  const auto weights = MixturePreset("llama1", {"c4", "mine", "github"});
  ASSERT_TRUE(weights.ok());
  EXPECT_NEAR((*weights)[0], 0.15 / 0.195, 1e-12);
  EXPECT_EQ((*weights)[1], 0);
  EXPECT_NEAR((*weights)[2], 0.045 / 0.195, 1e-12);
  const auto uniform = MixturePreset("uniform", {"c4", "mine"});
  ASSERT_TRUE(uniform.ok());
  EXPECT_EQ((*uniform)[1], 0.5);
}

TEST(MixturePresetTest, UnknownPresetOrDomains_AreErrors) {
  EXPECT_TRUE(absl::IsNotFound(MixturePreset("llama", {"c4"}).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(MixturePreset("llama1", {"mine"}).status()));
}

}  // namespace
}  // namespace moe::sampler
