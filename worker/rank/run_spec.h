// run.json (docs/formats/run-folder.md) as plain structs: what one attempt is to do.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/statusor.h"
#include "common/json.h"
#include "storage/artefacts/model_config.h"
#include "worker/construction/partition_model.h"
#include "worker/construction/train_gate.h"
#include "worker/evaluation/read_batch.h"
#include "worker/model/state_files.h"
#include "worker/training/watch.h"

namespace moe::rank {

struct Input {
  std::string path;
  std::string artefact;                     // "name:version"; empty where the input is a path
  std::optional<uint32_t> manifest_crc32c;  // of an artefact

  // What manifests and reports call it.
  const std::string& display_name() const { return artefact.empty() ? path : artefact; }
};

struct Output {
  std::string name;  // to catalogue it under
  std::string kind;  // "model", "checkpoint", "report"
  std::string dir;
};

struct ResumePoint {
  std::string path;
  uint32_t manifest_crc32c = 0;
  int64_t step = 0;
};

// A decision of the coordinator's sampler, here and in the order `mixture`.
struct MixtureDecision {
  int64_t version = 0;
  int64_t step = 0;
  int64_t first_sample = 0;
  std::map<std::string, double> weights;  // by domain
};
absl::StatusOr<MixtureDecision> ParseMixtureDecision(const Json& json, const std::string& path);

struct RunSpec {
  std::string job_id;
  std::string job_name;
  int32_t attempt = 0;
  std::string kind;
  int world_size = 1;
  Output output;
  std::map<std::string, Input> inputs;  // by field of the spec
  std::optional<ResumePoint> resume;
  // Only for a dynamic mixture.
  std::map<std::string, double> reference_losses;  // by domain
  std::vector<MixtureDecision> mixture_decisions;  // by earlier attempts
  Json spec;                                       // the kind's part, for the parsers below

  // INVALID_ARGUMENT where run.json has no such input.
  absl::StatusOr<Input> FindInput(const std::string& field) const;
  // Display names, in the order of the fields' names.
  std::vector<std::string> InputNames() const;
};

// INVALID_ARGUMENT names the field that is missing or of the wrong type.
absl::StatusOr<RunSpec> ParseRunSpec(const Json& json);

// The kinds' parts. The coordinator has filled in every default (proto/moe/v1/job_spec.proto says
// what fields mean), so a missing field is an error here too. Ranges that only depend on the spec
// are checked again: a rank may be started by hand.

struct CalibrationSpec {
  int64_t tokens = 0;
  int64_t shared_experts = 0;
  double active_ffn_share = 0;  // 0: no layer is chosen to stay dense
  bool compensate = false;
  bool mean_vector = false;
  bool fit_experts = false;
};

struct GateTrainingSpec {
  int64_t tokens = 0;
  construction::GateTrainingOptions options;
};

struct ConstructSpec {
  construction::MethodOptions method;
  std::string method_name;
  int64_t top_k = 0;
  double score_scale_factor = 0;
  double shared_scale_factor = 1;
  std::string gate_network;
  std::string gate;  // "noisy-top-k" or "switch"
  double capacity_factor = 0;
  std::string gate_init;  // "random", "centres" or "trained"
  bool learn_scale = false;
  std::optional<GateTrainingSpec> gate_training;  // there where gate_init is "trained"
  std::optional<CalibrationSpec> calibrate;
};
absl::StatusOr<ConstructSpec> ParseConstructSpec(const Json& spec);

// Of train and finetune jobs.
struct TrainSpec {
  bool is_finetune = false;
  // Exactly one is above 0; `epochs` only of a finetune job.
  int64_t steps = 0;
  double epochs = 0;
  int64_t sequence_length = 0;
  int64_t global_batch_samples = 0;
  int64_t micro_batch_samples = 0;
  double learning_rate = 0;
  double final_learning_rate_ratio = 0;
  std::optional<int64_t> warmup_steps;  // finetune: 3 % of the steps where absent
  double beta1 = 0;
  double beta2 = 0;
  double epsilon = 0;
  double weight_decay = 0;
  double clip_norm = 0;
  std::string mixture_preset;                     // empty where there are weights
  std::map<std::string, double> mixture_weights;  // by domain
  int64_t mixture_interval_steps = 0;             // between decisions; 0 where it is static
  int64_t mixture_heldout_samples = 0;            // of each domain, for a decision
  std::string compute_dtype;                      // "bf16" or "fp32"
  double balance_loss_weight = 0;
  bool gate_noise = true;
  std::string load_estimator;  // "correct" or "compat"
  int64_t checkpoint_interval_steps = 0;
  uint64_t seed = 0;
  std::vector<std::pair<std::string, double>> learning_rate_ratios;  // by parameter group
  training::WatchPolicy watch;
  bool random_start = false;
  bool continues = false;  // what another job trained; `resume` says from where
  int64_t collective_timeout_ms = 0;
  int64_t validation_interval_steps = 0;  // 0: no validation
  int64_t validation_heldout_samples = 0;
  double average_decay = 0;                   // 0: no average of the weights
  std::optional<int64_t> average_start_step;  // the end of the warm-up where absent
  artefacts::RopeScaling rope_scaling = {};   // original_context is the model's
  evaluation::AttentionScope attention = evaluation::AttentionScope::kSample;
  int64_t expert_parallel = 1;  // ranks among whom a layer's experts are shared out
};
absl::StatusOr<TrainSpec> ParseTrainSpec(const Json& spec, const std::string& kind);

struct EvaluateSpec {
  std::vector<std::string> labels;  // of inputs models.0, models.1, ...; may be empty strings
  int64_t sequence_length = 0;
  int64_t max_samples_per_domain = 0;
  int64_t batch_samples = 0;
  std::string compute_dtype;
  std::optional<int64_t> top_k;              // instead of what a mixture says
  std::vector<model::WhichWeights> weights;  // of each model
  evaluation::AttentionScope attention = evaluation::AttentionScope::kSample;
};
absl::StatusOr<EvaluateSpec> ParseEvaluateSpec(const Json& spec);

struct ExportSpec {
  std::string dtype;   // "fp32", "bf16" or "fp16"
  std::string format;  // "llama-moe", "mixtral", "qwen2-moe" or "llama"
  model::WhichWeights weights = model::WhichWeights::kLatest;
};
absl::StatusOr<ExportSpec> ParseExportSpec(const Json& spec);

}  // namespace moe::rank
