#include "worker/rank/run_spec.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <limits>
#include <utility>

#include "common/status.h"
#include "worker/rank/spec_reader.h"

namespace moe::rank {
namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();

absl::StatusOr<uint32_t> ManifestCrc(JsonReader& reader) {
  const uint64_t value = reader.Uint("manifest_crc32c");
  MOE_RETURN_IF_ERROR(reader.status());
  if (value > std::numeric_limits<uint32_t>::max()) {
    return InvalidArgument("{}: manifest_crc32c: {} has more than 32 bits", reader.path(), value);
  }
  return static_cast<uint32_t>(value);
}

absl::StatusOr<Input> ParseInput(const Json& json, const std::string& path) {
  JsonReader reader(json, path);
  Input input;
  input.path = reader.String("path");
  input.artefact = reader.String("artefact", "");
  if (reader.Has("manifest_crc32c")) {
    MOE_ASSIGN_OR_RETURN(input.manifest_crc32c, ManifestCrc(reader));
  }
  MOE_RETURN_IF_ERROR(reader.status());
  return input;
}

absl::StatusOr<Output> ParseOutput(const Json& json) {
  JsonReader reader(json, "run.json: output");
  Output output;
  output.name = reader.String("name");
  output.kind = reader.String("kind");
  output.dir = reader.String("dir");
  MOE_RETURN_IF_ERROR(reader.status());
  return output;
}

absl::StatusOr<ResumePoint> ParseResume(const Json& json) {
  JsonReader reader(json, "run.json: resume");
  ResumePoint resume;
  resume.path = reader.String("path");
  MOE_ASSIGN_OR_RETURN(resume.manifest_crc32c, ManifestCrc(reader));
  resume.step = reader.Int("step");
  MOE_RETURN_IF_ERROR(reader.status());
  return resume;
}

absl::StatusOr<std::map<std::string, double>> ParseNumbers(const Json& json,
                                                           const std::string& path) {
  JsonReader reader(json, path);
  std::map<std::string, double> numbers;
  for (const auto& [name, value] : json.items()) numbers[name] = reader.Double(name);
  MOE_RETURN_IF_ERROR(reader.status());
  return numbers;
}

absl::Status ParseSampler(const Json& json, RunSpec& run) {
  JsonReader reader(json, "run.json: sampler");
  const Json& losses = reader.Object("reference_losses");
  const Json& decisions = reader.Array("decisions");
  MOE_RETURN_IF_ERROR(reader.status());
  MOE_ASSIGN_OR_RETURN(run.reference_losses,
                       ParseNumbers(losses, "run.json: sampler.reference_losses"));
  for (const Json& decision : decisions) {
    MOE_ASSIGN_OR_RETURN(MixtureDecision parsed,
                         ParseMixtureDecision(decision, "run.json: sampler.decisions"));
    run.mixture_decisions.push_back(std::move(parsed));
  }
  return absl::OkStatus();
}

absl::Status ParseDynamicMixture(const Json& json, TrainSpec& spec) {
  SpecReader reader(json, "run.json: spec.mixture.dynamic");
  spec.mixture_interval_steps = reader.IntFrom("interval_steps", 1);
  spec.mixture_heldout_samples = reader.IntFrom("heldout_samples", 1);
  return reader.status();
}

absl::Status ParseOptimizer(const Json& json, TrainSpec& spec) {
  SpecReader reader(json, "run.json: spec.optimizer");
  spec.learning_rate = reader.DoubleIn("learning_rate", 0, kInfinity);
  spec.final_learning_rate_ratio = reader.DoubleIn("final_learning_rate_ratio", 0, 1);
  if (reader.reader().Has("warmup_steps")) spec.warmup_steps = reader.IntFrom("warmup_steps", 0);
  spec.beta1 = reader.DoubleIn("beta1", 0, 1);
  spec.beta2 = reader.DoubleIn("beta2", 0, 1);
  spec.epsilon = reader.DoubleIn("epsilon", 0, kInfinity);
  spec.weight_decay = reader.DoubleIn("weight_decay", 0, kInfinity);
  spec.clip_norm = reader.DoubleIn("clip_norm", 0, kInfinity);
  const Json& groups = reader.Array("groups");
  MOE_RETURN_IF_ERROR(reader.status());
  for (const Json& entry : groups) {
    SpecReader group(entry, "run.json: spec.optimizer.groups");
    spec.learning_rate_ratios.emplace_back(
        group.OneOf("parameters", {"embeddings", "attention", "ffn", "gates", "norms"}),
        group.DoubleIn("learning_rate_ratio", 0, 100));
    MOE_RETURN_IF_ERROR(group.status());
  }
  return absl::OkStatus();
}

absl::Status ParseWatch(const Json& json, training::WatchPolicy& watch) {
  SpecReader reader(json, "run.json: spec.watch");
  const auto action = [&reader](const std::string& key, const std::vector<std::string>& names) {
    const std::string name = reader.OneOf(key, names);
    return name == "report"     ? training::WatchAction::kReport
           : name == "skip"     ? training::WatchAction::kSkip
           : name == "rollback" ? training::WatchAction::kRollback
                                : training::WatchAction::kStop;
  };
  watch.on_non_finite = action("on_non_finite", {"skip", "rollback", "stop"});
  watch.on_loss_spike = action("on_loss_spike", {"report", "skip", "rollback", "stop"});
  watch.spike_deviations = reader.DoubleIn("spike_deviations", 2, kInfinity);
  watch.window_steps = reader.IntFrom("window_steps", 8);
  watch.max_bad_steps = reader.IntFrom("max_bad_steps", 1);
  watch.dead_expert_share = reader.DoubleIn("dead_expert_share", 0, 1);
  return reader.status();
}

// Specs of before there was a choice, and those of finetune jobs, say nothing.
evaluation::AttentionScope ParseAttention(SpecReader& reader) {
  constexpr char kField[] = "reset_attention_mask";
  const bool resets = reader.reader().Has(kField) && reader.Bool(kField);
  return resets ? evaluation::AttentionScope::kDocument : evaluation::AttentionScope::kSample;
}

// The parts that a job may do without.
absl::Status ParseOptions(const Json& json, TrainSpec& spec) {
  if (json.contains("parallel")) {
    SpecReader reader(json.at("parallel"), "run.json: spec.parallel");
    spec.expert_parallel = reader.IntFrom("expert", 1);
    MOE_RETURN_IF_ERROR(reader.status());
  }
  if (json.contains("validation")) {
    SpecReader reader(json.at("validation"), "run.json: spec.validation");
    spec.validation_interval_steps = reader.IntFrom("interval_steps", 1);
    spec.validation_heldout_samples = reader.IntFrom("heldout_samples", 1);
    MOE_RETURN_IF_ERROR(reader.status());
  }
  if (json.contains("weight_average")) {
    SpecReader reader(json.at("weight_average"), "run.json: spec.weight_average");
    spec.average_decay = reader.DoubleIn("decay", 0, 0.9999999);
    if (reader.reader().Has("start_step")) {
      spec.average_start_step = reader.IntFrom("start_step", 0);
    }
    MOE_RETURN_IF_ERROR(reader.status());
  }
  if (json.contains("rope_scaling")) {
    SpecReader reader(json.at("rope_scaling"), "run.json: spec.rope_scaling");
    spec.rope_scaling.type = reader.OneOf("type", {"linear", "dynamic", "llama3"});
    spec.rope_scaling.factor = reader.DoubleIn("factor", 1, 1024);
    if (spec.rope_scaling.type == "llama3") {
      spec.rope_scaling.low_freq_factor = reader.DoubleIn("low_freq_factor", 1e-6, 1e6);
      spec.rope_scaling.high_freq_factor = reader.DoubleIn("high_freq_factor", 1e-6, 1e6);
    }
    MOE_RETURN_IF_ERROR(reader.status());
  }
  return absl::OkStatus();
}

// Specs of before there were averages say nothing.
absl::StatusOr<model::WhichWeights> ParseWeights(const Json& json, const std::string& path) {
  JsonReader reader(json, path);
  const std::string name = reader.String("weights", "");
  MOE_RETURN_IF_ERROR(reader.status());
  if (name == "average") return model::WhichWeights::kAverage;
  if (name.empty() || name == "latest") return model::WhichWeights::kLatest;
  return InvalidArgument("{}: weights: \"{}\" must be one of latest, average", path, name);
}

absl::Status ParseMixture(const Json& json, TrainSpec& spec) {
  JsonReader reader(json, "run.json: spec.mixture");
  spec.mixture_preset = reader.String("preset", "");
  if (reader.Has("weights")) {
    const Json& weights = reader.Object("weights");
    MOE_ASSIGN_OR_RETURN(spec.mixture_weights,
                         ParseNumbers(weights, "run.json: spec.mixture.weights"));
  }
  if (reader.Has("dynamic")) {
    MOE_RETURN_IF_ERROR(ParseDynamicMixture(reader.Object("dynamic"), spec));
  }
  MOE_RETURN_IF_ERROR(reader.status());
  if (spec.mixture_preset.empty() == spec.mixture_weights.empty()) {
    return InvalidArgument("run.json: spec.mixture: exactly one of preset and weights is needed");
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<MixtureDecision> ParseMixtureDecision(const Json& json, const std::string& path) {
  JsonReader reader(json, path);
  MixtureDecision decision;
  decision.version = reader.Int("version");
  decision.step = reader.Int("step");
  decision.first_sample = reader.Int("first_sample");
  const Json& weights = reader.Object("weights");
  MOE_RETURN_IF_ERROR(reader.status());
  MOE_ASSIGN_OR_RETURN(decision.weights, ParseNumbers(weights, path + ": weights"));
  return decision;
}

absl::StatusOr<Input> RunSpec::FindInput(const std::string& field) const {
  const auto it = inputs.find(field);
  if (it == inputs.end()) {
    return InvalidArgument("run.json: inputs.{} is missing; a {} job needs it", field, kind);
  }
  return it->second;
}

std::vector<std::string> RunSpec::InputNames() const {
  std::vector<std::string> names;
  for (const auto& [field, input] : inputs) names.push_back(input.display_name());
  return names;
}

absl::StatusOr<RunSpec> ParseRunSpec(const Json& json) {
  SpecReader reader(json, "run.json");
  RunSpec run;
  reader.OneOf("format", {"moe-run-spec"});
  if (const int64_t version = reader.IntFrom("version", 1); reader.status().ok() && version != 1) {
    return InvalidArgument("run.json: version {} is not known to this program, which reads 1",
                           version);
  }
  run.job_id = reader.String("job_id");
  run.job_name = reader.String("job_name");
  run.attempt = static_cast<int32_t>(reader.IntFrom("attempt", 1));
  run.kind = reader.String("kind");
  run.world_size = static_cast<int>(reader.IntFrom("world_size", 1));
  const Json& output = reader.Object("output");
  const Json& inputs = reader.Object("inputs");
  run.spec = reader.Object("spec");
  MOE_RETURN_IF_ERROR(reader.status());

  MOE_ASSIGN_OR_RETURN(run.output, ParseOutput(output));
  for (const auto& [field, input] : inputs.items()) {
    MOE_ASSIGN_OR_RETURN(run.inputs[field], ParseInput(input, "run.json: inputs." + field));
  }
  if (reader.reader().Has("resume")) {
    MOE_ASSIGN_OR_RETURN(run.resume, ParseResume(json.at("resume")));
  }
  if (reader.reader().Has("sampler")) {
    MOE_RETURN_IF_ERROR(ParseSampler(json.at("sampler"), run));
  }
  return run;
}

absl::StatusOr<TrainSpec> ParseTrainSpec(const Json& json, const std::string& kind) {
  SpecReader reader(json, "run.json: spec");
  TrainSpec spec;
  spec.is_finetune = kind == "finetune";
  if (spec.is_finetune && reader.reader().Has("epochs")) {
    spec.epochs = reader.DoubleIn("epochs", 1e-6, 1000);
  } else {
    spec.steps = reader.IntFrom("steps", 1);
  }
  spec.sequence_length = reader.IntFrom("sequence_length", 2);
  spec.global_batch_samples = reader.IntFrom("global_batch_samples", 1);
  spec.micro_batch_samples = reader.IntFrom("micro_batch_samples", 1);
  spec.compute_dtype = reader.OneOf("compute_dtype", {"bf16", "fp32"});
  spec.balance_loss_weight = reader.DoubleIn("balance_loss_weight", 0, kInfinity);
  spec.gate_noise = reader.Bool("gate_noise");
  spec.attention = ParseAttention(reader);
  spec.load_estimator = reader.OneOf("load_estimator", {"correct", "compat"});
  spec.seed = reader.Seed("seed");
  const Json& optimizer = reader.Object("optimizer");
  const Json& mixture = reader.Object("mixture");
  const Json& watch = reader.Object("watch");
  const std::string start = reader.OneOf("start", {"pretrained", "random", "continue"});
  spec.random_start = start == "random";
  spec.continues = start == "continue";
  spec.collective_timeout_ms = 1000 * reader.IntFrom("collective_timeout_seconds", 1);
  SpecReader checkpoint(reader.Object("checkpoint"), "run.json: spec.checkpoint");
  MOE_RETURN_IF_ERROR(reader.status());
  spec.checkpoint_interval_steps = checkpoint.IntFrom("interval_steps", 1);
  MOE_RETURN_IF_ERROR(checkpoint.status());
  MOE_RETURN_IF_ERROR(ParseOptimizer(optimizer, spec));
  MOE_RETURN_IF_ERROR(ParseMixture(mixture, spec));
  MOE_RETURN_IF_ERROR(ParseWatch(watch, spec.watch));
  MOE_RETURN_IF_ERROR(ParseOptions(json, spec));
  if (!spec.is_finetune && !spec.warmup_steps.has_value()) {
    return InvalidArgument("run.json: spec.optimizer: warmup_steps: missing");
  }
  return spec;
}

absl::StatusOr<EvaluateSpec> ParseEvaluateSpec(const Json& json) {
  SpecReader reader(json, "run.json: spec");
  EvaluateSpec spec;
  spec.sequence_length = reader.IntFrom("sequence_length", 2);
  spec.max_samples_per_domain = reader.IntFrom("max_samples_per_domain", 0);
  spec.batch_samples = reader.IntFrom("batch_samples", 1);
  spec.compute_dtype = reader.OneOf("compute_dtype", {"bf16", "fp32"});
  if (reader.reader().Has("top_k")) spec.top_k = reader.IntFrom("top_k", 1);
  spec.attention = ParseAttention(reader);
  const Json& models = reader.Array("models");
  MOE_RETURN_IF_ERROR(reader.status());
  if (models.empty()) return InvalidArgument("run.json: spec.models: at least one is needed");
  for (size_t i = 0; i < models.size(); ++i) {
    const std::string path = fmt::format("run.json: spec.models[{}]", i);
    JsonReader model(models[i], path);
    spec.labels.push_back(model.String("label", ""));
    MOE_ASSIGN_OR_RETURN(const model::WhichWeights weights, ParseWeights(models[i], path));
    spec.weights.push_back(weights);
    MOE_RETURN_IF_ERROR(model.status());
  }
  return spec;
}

absl::StatusOr<ExportSpec> ParseExportSpec(const Json& json) {
  SpecReader reader(json, "run.json: spec");
  ExportSpec spec;
  spec.dtype = reader.OneOf("dtype", {"fp32", "bf16", "fp16"});
  spec.format = reader.OneOf("format", {"llama-moe", "mixtral", "qwen2-moe", "llama"});
  MOE_ASSIGN_OR_RETURN(spec.weights, ParseWeights(json, "run.json: spec"));
  MOE_RETURN_IF_ERROR(reader.status());
  return spec;
}

}  // namespace moe::rank
