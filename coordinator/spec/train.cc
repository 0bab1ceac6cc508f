#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "common/status.h"
#include "coordinator/spec/kinds.h"
#include "coordinator/spec/mixture.h"

namespace moe::coordinator {
namespace {

const std::vector<std::string> kLoadEstimators = {"correct", "compat"};
const std::vector<std::string> kParameterGroups = {"embeddings", "attention", "ffn", "gates",
                                                   "norms"};
const std::vector<std::string> kNonFiniteActions = {"skip", "rollback", "stop"};
const std::vector<std::string> kSpikeActions = {"report", "skip", "rollback", "stop"};
const std::vector<std::string> kStarts = {"pretrained", "random"};

void CheckGroups(Checker& check, v1::Optimizer& spec) {
  std::set<std::string> seen;
  int frozen = 0;
  for (v1::ParameterGroup& group : *spec.mutable_groups()) {
    check.OneOf("optimizer.groups.parameters", group.parameters(), kParameterGroups);
    if (!seen.insert(group.parameters()).second) {
      check.Fail("optimizer.groups names '{}' twice; give each group once", group.parameters());
    }
    if (!group.has_learning_rate_ratio()) group.set_learning_rate_ratio(1.0);
    check.Range("optimizer.groups.learning_rate_ratio", group.learning_rate_ratio(), 0.0, 100.0);
    frozen += group.learning_rate_ratio() == 0 ? 1 : 0;
  }
  if (frozen == static_cast<int>(kParameterGroups.size())) {
    check.Fail("optimizer.groups freezes {}: nothing is left to train",
               fmt::join(kParameterGroups, ", "));
  }
}

void CheckWatch(Checker& check, v1::WatchPolicy& spec) {
  if (spec.on_non_finite().empty()) spec.set_on_non_finite("skip");
  if (spec.on_loss_spike().empty()) spec.set_on_loss_spike("report");
  if (!spec.has_spike_deviations()) spec.set_spike_deviations(6.0);
  if (!spec.has_window_steps()) spec.set_window_steps(32);
  if (!spec.has_max_bad_steps()) spec.set_max_bad_steps(5);
  if (!spec.has_dead_expert_share()) spec.set_dead_expert_share(0.01);
  check.OneOf("watch.on_non_finite", spec.on_non_finite(), kNonFiniteActions);
  check.OneOf("watch.on_loss_spike", spec.on_loss_spike(), kSpikeActions);
  check.Minimum("watch.spike_deviations", spec.spike_deviations(), 2.0);
  check.Range<int32_t>("watch.window_steps", spec.window_steps(), 8, 10000);
  check.Minimum<int32_t>("watch.max_bad_steps", spec.max_bad_steps(), 1);
  check.Range("watch.dead_expert_share", spec.dead_expert_share(), 0.0, 1.0);
}

void CheckOptimizer(Checker& check, v1::Optimizer& spec) {
  if (!spec.has_learning_rate()) spec.set_learning_rate(2e-4);
  if (!spec.has_final_learning_rate_ratio()) spec.set_final_learning_rate_ratio(0.1);
  if (!spec.has_warmup_steps()) spec.set_warmup_steps(100);
  if (!spec.has_beta1()) spec.set_beta1(0.9);
  if (!spec.has_beta2()) spec.set_beta2(0.95);
  if (!spec.has_epsilon()) spec.set_epsilon(1e-8);
  if (!spec.has_weight_decay()) spec.set_weight_decay(0.1);
  if (!spec.has_clip_norm()) spec.set_clip_norm(1.0);
  check.Positive("optimizer.learning_rate", spec.learning_rate());
  check.Range("optimizer.final_learning_rate_ratio", spec.final_learning_rate_ratio(), 0.0, 1.0);
  check.Minimum<int32_t>("optimizer.warmup_steps", spec.warmup_steps(), 0);
  check.Range("optimizer.beta1", spec.beta1(), 0.0, 0.999999);
  check.Range("optimizer.beta2", spec.beta2(), 0.0, 0.999999);
  check.Positive("optimizer.epsilon", spec.epsilon());
  check.Minimum("optimizer.weight_decay", spec.weight_decay(), 0.0);
  check.Minimum("optimizer.clip_norm", spec.clip_norm(), 0.0);
  CheckGroups(check, spec);
}

}  // namespace

void CheckTrain(Checker& check, const Inputs& inputs, int32_t slots, v1::TrainSpec& spec,
                ThingFacts& output) {
  const ThingFacts model = inputs.LookAtModel(check, "model", spec.model());
  const ThingFacts dataset = inputs.LookAtDataset(check, "dataset", spec.dataset());
  CheckVocabulary(check, "model", model, dataset);
  check.Minimum<int32_t>("steps", spec.steps(), 1);
  if (!spec.has_sequence_length()) spec.set_sequence_length(4096);
  if (!spec.has_global_batch_samples()) spec.set_global_batch_samples(8);
  if (!spec.has_micro_batch_samples()) spec.set_micro_batch_samples(4);
  check.Minimum<int32_t>("sequence_length", spec.sequence_length(), 2);
  check.Minimum<int32_t>("global_batch_samples", spec.global_batch_samples(), 1);
  check.Minimum<int32_t>("micro_batch_samples", spec.micro_batch_samples(), 1);
  CheckSequenceLength(check, "model", spec.sequence_length(), model);
  const int64_t unit = int64_t{spec.micro_batch_samples()} * slots;
  if (check.status().ok() && spec.global_batch_samples() % unit != 0) {
    const int64_t above = (spec.global_batch_samples() + unit - 1) / unit * unit;
    check.Fail(
        "global_batch_samples={} is not a multiple of micro_batch_samples x slots = {} x {} "
        "= {}; use {}, or a smaller micro_batch_samples",
        spec.global_batch_samples(), spec.micro_batch_samples(), slots, unit, above);
  }
  CheckOptimizer(check, *spec.mutable_optimizer());
  const int64_t tokens_per_step =
      std::max<int64_t>(1, int64_t{spec.global_batch_samples()} * spec.sequence_length());
  CheckMixture(check, inputs, dataset.domains, tokens_per_step, *spec.mutable_mixture());
  if (spec.compute_dtype().empty()) spec.set_compute_dtype("bf16");
  check.OneOf("compute_dtype", spec.compute_dtype(), ComputeDtypes());
  if (!spec.has_balance_loss_weight()) spec.set_balance_loss_weight(0.01);
  check.Minimum("balance_loss_weight", spec.balance_loss_weight(), 0.0);
  if (!spec.has_gate_noise()) spec.set_gate_noise(true);
  if (spec.load_estimator().empty()) spec.set_load_estimator("correct");
  check.OneOf("load_estimator", spec.load_estimator(), kLoadEstimators);
  v1::CheckpointPolicy& checkpoint = *spec.mutable_checkpoint();
  if (!checkpoint.has_interval_steps()) checkpoint.set_interval_steps(100);
  if (!checkpoint.has_keep()) checkpoint.set_keep(2);
  check.Minimum<int32_t>("checkpoint.interval_steps", checkpoint.interval_steps(), 1);
  check.Minimum<int32_t>("checkpoint.keep", checkpoint.keep(), 1);
  if (!spec.has_seed()) spec.set_seed(kDefaultSeed);
  check.Minimum<int64_t>("seed", spec.seed(), 0);
  CheckWatch(check, *spec.mutable_watch());
  if (spec.start().empty()) spec.set_start("pretrained");
  check.OneOf("start", spec.start(), kStarts);
  if (!spec.has_collective_timeout_seconds()) spec.set_collective_timeout_seconds(120);
  check.Range<int32_t>("collective_timeout_seconds", spec.collective_timeout_seconds(), 1, 86400);
  output.model = model.model;
}

}  // namespace moe::coordinator
