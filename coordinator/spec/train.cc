#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "common/status.h"
#include "coordinator/spec/kinds.h"
#include "coordinator/spec/mixture.h"
#include "planner/expert_parallel.h"

namespace moe::coordinator {
namespace {

const std::vector<std::string> kLoadEstimators = {"correct", "compat"};
const std::vector<std::string> kParameterGroups = {"embeddings", "attention", "ffn", "gates",
                                                   "norms"};
const std::vector<std::string> kNonFiniteActions = {"skip", "rollback", "stop"};
const std::vector<std::string> kSpikeActions = {"report", "skip", "rollback", "stop"};
const std::vector<std::string> kStarts = {"pretrained", "random", "continue"};
const std::vector<std::string> kRopeScalings = {"linear", "dynamic", "llama3"};

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
  if (!spec.has_beta1()) spec.set_beta1(0.9);
  if (!spec.has_beta2()) spec.set_beta2(0.95);
  if (!spec.has_epsilon()) spec.set_epsilon(1e-8);
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

void CheckValidation(Checker& check, v1::Validation& spec) {
  if (!spec.has_interval_steps()) spec.set_interval_steps(100);
  if (!spec.has_heldout_samples()) spec.set_heldout_samples(16);
  check.Minimum<int32_t>("validation.interval_steps", spec.interval_steps(), 1);
  check.Minimum<int32_t>("validation.heldout_samples", spec.heldout_samples(), 1);
}

void CheckWeightAverage(Checker& check, v1::WeightAverage& spec) {
  if (!spec.has_decay()) spec.set_decay(0.999);
  check.Range("weight_average.decay", spec.decay(), 0.0, 0.9999999);
  if (spec.has_start_step()) {
    check.Minimum<int32_t>("weight_average.start_step", spec.start_step(), 0);
  }
}

// The context becomes `factor` times the one the model was first trained on; `model` is what the
// job works on from there.
void CheckRopeScaling(Checker& check, v1::RopeScaling& spec, ThingFacts& model) {
  check.OneOf("rope_scaling.type", spec.type(), kRopeScalings);
  if (!spec.has_factor()) check.Fail("rope_scaling.factor is missing; give a number above 1");
  check.Range("rope_scaling.factor", spec.factor(), 1.0, 1024.0);
  if (spec.type() == "llama3") {
    if (!spec.has_low_freq_factor()) spec.set_low_freq_factor(1.0);
    if (!spec.has_high_freq_factor()) spec.set_high_freq_factor(4.0);
    check.Positive("rope_scaling.low_freq_factor", spec.low_freq_factor());
    if (!(spec.high_freq_factor() > spec.low_freq_factor())) {
      check.Fail("rope_scaling.high_freq_factor={} must be above low_freq_factor={}",
                 spec.high_freq_factor(), spec.low_freq_factor());
    }
  } else if (spec.has_low_freq_factor() || spec.has_high_freq_factor()) {
    check.Fail("rope_scaling.low_freq_factor and high_freq_factor are for llama3, not for {}",
               spec.type());
  }
  if (!check.status().ok() || !model.model.has_value()) return;
  ModelFacts& facts = *model.model;
  const int64_t original = facts.shape.has_value() && !facts.shape->rope_scaling.type.empty()
                               ? facts.shape->rope_scaling.original_context
                               : facts.context_length;
  facts.context_length = static_cast<int64_t>(static_cast<double>(original) * spec.factor());
  if (facts.shape.has_value()) facts.shape->context_length = facts.context_length;
}

void CheckKindOfDataset(Checker& check, const ThingFacts& dataset, bool wants_conversations) {
  if (!dataset.conversations.has_value() || *dataset.conversations == wants_conversations) return;
  if (wants_conversations) {
    check.Fail(
        "dataset holds running text and finetune needs conversations; prepare it with "
        "`conversations`, or use train");
  } else {
    check.Fail(
        "dataset holds conversations and train needs running text; use finetune, or prepare it "
        "without `conversations`");
  }
}

// start=continue: another run's checkpoint, and steps that it has not done.
void CheckContinue(Checker& check, const v1::TrainSpec& spec, const ThingFacts& model) {
  if (model.kind != v1::ARTEFACT_KIND_CHECKPOINT) {
    check.Fail(
        "start='continue' goes on with a run, and model is {}; give the artefact of a checkpoint, "
        "or "
        "leave start out",
        model.kind.has_value() ? "a " + KindName(*model.kind) : "a path");
  } else if (spec.steps() == 0) {
    check.Fail("start='continue' needs steps, counted from the run's beginning");
  } else if (spec.steps() <= model.step) {
    check.Fail("steps={} and model is at step {} already; give more steps", spec.steps(),
               model.step);
  }
}

// Ranks that share out experts, as far as the model is known.
void CheckParallel(Checker& check, int32_t slots, const ThingFacts& model, v1::Parallel& spec) {
  if (!spec.has_expert()) spec.set_expert(1);
  check.Minimum<int32_t>("parallel.expert", spec.expert(), 1);
  if (!check.status().ok()) return;
  absl::Status status = planner::CheckExpertGroups(spec.expert(), slots);
  if (status.ok() && model.model.has_value() && model.model->shape.has_value()) {
    status = planner::CheckExpertShares(*model.model->shape, spec.expert());
  }
  if (!status.ok()) check.Fail("{}", Message(status));
}

// What train and finetune have in common, once a kind has filled in the defaults that are its own.
void CheckRun(Checker& check, const Inputs& inputs, int32_t slots, const ThingFacts& dataset,
              v1::TrainSpec& spec, ThingFacts& output) {
  ThingFacts model = inputs.LookAtModel(check, "model", spec.model());
  if (spec.has_rope_scaling()) CheckRopeScaling(check, *spec.mutable_rope_scaling(), model);
  CheckVocabulary(check, "model", model, dataset);
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
  if (spec.start() == "continue") CheckContinue(check, spec, model);
  if (!spec.has_collective_timeout_seconds()) spec.set_collective_timeout_seconds(120);
  check.Range<int32_t>("collective_timeout_seconds", spec.collective_timeout_seconds(), 1, 86400);
  if (spec.has_validation()) CheckValidation(check, *spec.mutable_validation());
  if (spec.has_weight_average()) CheckWeightAverage(check, *spec.mutable_weight_average());
  if (spec.has_parallel()) CheckParallel(check, slots, model, *spec.mutable_parallel());
  output.model = model.model;
  output.step = spec.steps();
}

}  // namespace

void CheckTrain(Checker& check, const Inputs& inputs, int32_t slots, v1::TrainSpec& spec,
                ThingFacts& output) {
  const ThingFacts dataset = inputs.LookAtDataset(check, "dataset", spec.dataset());
  CheckKindOfDataset(check, dataset, /*wants_conversations=*/false);
  if (spec.has_epochs()) check.Fail("epochs is for finetune jobs; give steps");
  if (!spec.has_reset_attention_mask()) spec.set_reset_attention_mask(false);
  check.Minimum<int32_t>("steps", spec.steps(), 1);
  if (!spec.has_sequence_length()) spec.set_sequence_length(4096);
  if (!spec.has_global_batch_samples()) spec.set_global_batch_samples(8);
  v1::Optimizer& optimizer = *spec.mutable_optimizer();
  if (!optimizer.has_learning_rate()) optimizer.set_learning_rate(2e-4);
  if (!optimizer.has_final_learning_rate_ratio()) optimizer.set_final_learning_rate_ratio(0.1);
  if (!optimizer.has_warmup_steps()) optimizer.set_warmup_steps(100);
  if (!optimizer.has_weight_decay()) optimizer.set_weight_decay(0.1);
  CheckRun(check, inputs, slots, dataset, spec, output);
}

// As the published models were tuned (Deita-6k, 2 epochs).
void CheckFinetune(Checker& check, const Inputs& inputs, int32_t slots, v1::TrainSpec& spec,
                   ThingFacts& output) {
  const ThingFacts dataset = inputs.LookAtDataset(check, "dataset", spec.dataset());
  CheckKindOfDataset(check, dataset, /*wants_conversations=*/true);
  if (spec.steps() > 0 && spec.has_epochs()) {
    check.Fail("steps={} and epochs={} are both given; give one", spec.steps(), spec.epochs());
  }
  check.Minimum<int32_t>("steps", spec.steps(), 0);
  if (spec.steps() == 0) {
    if (!spec.has_epochs()) spec.set_epochs(2.0);
    check.Positive("epochs", spec.epochs());
    check.Range("epochs", spec.epochs(), 0.0, 1000.0);
  }
  if (spec.mixture().has_dynamic()) {
    check.Fail("mixture.dynamic is for train jobs; leave it out, or give mixture.weights");
  }
  if (spec.has_reset_attention_mask()) {
    check.Fail(
        "reset_attention_mask is for train jobs: each conversation is a sample of its own here; "
        "leave "
        "it out");
  }
  if (spec.start() == "random") check.Fail("start='random' is for train jobs; leave it out");
  if (spec.mixture().preset().empty() && spec.mixture().weights().empty()) {
    spec.mutable_mixture()->set_preset("proportional");
  }
  if (!spec.has_sequence_length()) spec.set_sequence_length(2048);
  if (!spec.has_global_batch_samples()) spec.set_global_batch_samples(128);
  v1::Optimizer& optimizer = *spec.mutable_optimizer();
  if (!optimizer.has_learning_rate()) optimizer.set_learning_rate(2e-5);
  if (!optimizer.has_final_learning_rate_ratio()) optimizer.set_final_learning_rate_ratio(0.0);
  if (!optimizer.has_weight_decay()) optimizer.set_weight_decay(0.0);
  if (optimizer.groups().empty()) {
    v1::ParameterGroup& gates = *optimizer.add_groups();
    gates.set_parameters("gates");
    gates.set_learning_rate_ratio(0.0);
  }
  CheckRun(check, inputs, slots, dataset, spec, output);
}

}  // namespace moe::coordinator
