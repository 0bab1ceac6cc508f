#include "tests/unit/worker/training/tiny_run.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <utility>

#include "common/check.h"
#include "common/file.h"
#include "common/philox.h"
#include "common/status.h"
#include "sampler/target_mask.h"
#include "sampler/token_shard.h"
#include "storage/artefacts/manifest.h"
#include "worker/parallel/single_rank.h"
#include "worker/training/ownership.h"

namespace moe::training {
namespace {

constexpr int64_t kVocabulary = 128;
constexpr int64_t kSequenceLength = 32;
constexpr int kDocumentTokens = 50;

void CheckOk(const absl::Status& status) {
  if (!status.ok()) throw std::runtime_error(ToString(status));
}

template <typename T>
T Value(absl::StatusOr<T> result) {
  CheckOk(result.status());
  return *std::move(result);
}

void WriteShard(const std::string& path, uint32_t domain, int documents) {
  auto writer = Value(sampler::TokenShardWriter::Create(path, kVocabulary));
  PhiloxGenerator random(1227, RandomStream::kTest, domain);
  for (int i = 0; i < documents; ++i) {
    // A domain prefers its own half of the vocabulary, and a token's successor to other tokens.
    std::vector<int32_t> tokens(kDocumentTokens);
    int32_t token = 0;
    for (int32_t& out : tokens) {
      token = random.Below(4) == 0 ? static_cast<int32_t>(random.Below(64)) : (token + 1) % 64;
      out = token + 64 * static_cast<int32_t>(domain % 2);
    }
    CheckOk(writer->AppendDocument(tokens));
  }
  CheckOk(writer->Finish());
}

void MakeShardFolders(const std::string& folder) {
  CheckOk(MakeDirectories(JoinPath(folder, "train")));
  CheckOk(MakeDirectories(JoinPath(folder, "heldout")));
}

Json DomainEntry(const std::string& name, int documents) {
  return {{"name", name},
          {"train_tokens", documents * kDocumentTokens},
          {"train_documents", documents},
          {"heldout_tokens", 4 * kDocumentTokens},
          {"heldout_documents", 4}};
}

void WriteDatasetManifest(const std::string& folder, Json domains, Json conversations = {}) {
  artefacts::Manifest manifest;
  manifest.kind = "dataset";
  manifest.name = "tiny";
  manifest.job_id = "j1";
  manifest.attempt = 1;
  manifest.metadata = {{"vocab_size", kVocabulary}, {"domains", std::move(domains)}};
  if (!conversations.is_null()) manifest.metadata["conversations"] = std::move(conversations);
  CheckOk(artefacts::WriteManifest(folder, manifest).status());
}

}  // namespace

artefacts::ModelConfig TinyMoe() {
  artefacts::ModelConfig config;
  config.vocab_size = kVocabulary;
  config.hidden_size = 64;
  config.intermediate_size = 128;
  config.num_layers = 2;
  config.num_heads = 2;
  config.num_kv_heads = 1;
  config.head_dim = 32;
  config.context_length = 64;
  config.tie_word_embeddings = true;
  config.moe.num_experts = 4;
  config.moe.top_k = 2;
  config.moe.expert_width = 32;
  config.moe.score_scale_factor = 2.0;
  return config;
}

at::Tensor RandomParameters(const artefacts::ModelConfig& config, const model::ExpertShare& share) {
  const model::ParameterLayout layout(config, share);
  at::Tensor parameters = at::zeros({layout.arena_numel()}, at::kFloat);
  float* data = parameters.mutable_data_ptr<float>();
  for (const model::Parameter& parameter : layout.parameters()) {
    for (int64_t i = 0; i < parameter.numel; ++i) {
      const uint64_t place = static_cast<uint64_t>(parameter.whole_offset + i);
      data[parameter.offset + i] =
          parameter.decay ? 0.1f * Normal4(Philox(1227, RandomStream::kTest, 7, place))[0] : 1.0f;
    }
  }
  return parameters;
}

void WriteTinyDataset(const std::string& folder) {
  Json domains = Json::array();
  uint32_t number = 0;
  MakeShardFolders(folder);
  for (const std::string name : {"c4", "github"}) {
    WriteShard(JoinPath(folder, sampler::ShardPath(sampler::Split::kTrain, name)), number, 40);
    WriteShard(JoinPath(folder, sampler::ShardPath(sampler::Split::kHeldout, name)), number + 2, 4);
    domains.push_back(DomainEntry(name, 40));
    ++number;
  }
  WriteDatasetManifest(folder, std::move(domains));
}

void WriteRepeatedTokenDataset(const std::string& folder, int documents) {
  MakeShardFolders(folder);
  for (const sampler::Split split : {sampler::Split::kTrain, sampler::Split::kHeldout}) {
    auto writer = Value(sampler::TokenShardWriter::Create(
        JoinPath(folder, sampler::ShardPath(split, "c4")), kVocabulary));
    const int count = split == sampler::Split::kTrain ? documents : 4;
    for (int i = 0; i < count; ++i) {
      CheckOk(writer->AppendDocument(std::vector<int32_t>(kDocumentTokens, 7)));
    }
    CheckOk(writer->Finish());
  }
  WriteDatasetManifest(folder, Json::array({DomainEntry("c4", documents)}));
}

void WriteTinyConversations(const std::string& folder) {
  MakeShardFolders(folder);
  Json domains = Json::array();
  uint32_t number = 0;
  for (const std::string name : {"chat", "code"}) {
    Json entry = {{"name", name}};
    for (const sampler::Split split : {sampler::Split::kTrain, sampler::Split::kHeldout}) {
      auto writer = Value(sampler::TokenShardWriter::Create(
          JoinPath(folder, sampler::ShardPath(split, name)), kVocabulary));
      auto mask = Value(sampler::TargetMaskWriter::Resume(
          JoinPath(folder, sampler::TargetMaskPath(split, name)), 0));
      PhiloxGenerator random(1227, RandomStream::kTest, 20 + number++);
      for (int i = 0; i < (split == sampler::Split::kTrain ? 30 : 4); ++i) {
        // A question of any tokens; the answer counts up from its last one.
        const int question = 4 + static_cast<int>(random.Below(10));
        const int answer = 8 + static_cast<int>(random.Below(20));
        std::vector<int32_t> tokens;
        for (int t = 0; t < question; ++t) {
          tokens.push_back(static_cast<int32_t>(random.Below(kVocabulary)));
        }
        for (int t = 0; t < answer; ++t) tokens.push_back((tokens.back() + 1) % kVocabulary);
        CheckOk(writer->AppendDocument(tokens));
        std::vector<bool> is_target(tokens.size(), false);
        std::fill(is_target.begin() + question, is_target.end(), true);
        CheckOk(mask->Append(is_target));
      }
      CheckOk(writer->Finish());
      CheckOk(mask->Finish());
      const std::string side = split == sampler::Split::kTrain ? "train" : "heldout";
      entry[side + "_tokens"] = writer->extent().tokens;
      entry[side + "_documents"] = writer->extent().documents;
    }
    domains.push_back(std::move(entry));
  }
  WriteDatasetManifest(folder, std::move(domains),
                       {{"template", "none"}, {"max_tokens", kSequenceLength}});
}

StopReason RecordingObserver::stop_requested() {
  absl::MutexLock lock(&mutex_);
  ++polls_;  // once a step
  return stop_step_ > 0 && polls_ >= stop_step_ ? stop_reason_ : StopReason::kNone;
}

void RecordingObserver::OnStep(const StepReport& report) {
  absl::MutexLock lock(&mutex_);
  steps.push_back(report);
}

void RecordingObserver::OnWarning(int64_t step, const std::string& kind, const std::string& text) {
  absl::MutexLock lock(&mutex_);
  warnings.push_back(fmt::format("step {} {}: {}", step, kind, text));
}

void RecordingObserver::OnCheckpoint(const WrittenCheckpoint& checkpoint) {
  absl::MutexLock lock(&mutex_);
  checkpoints.push_back(checkpoint);
}

void RecordingObserver::OnCheckpointFailed(int64_t step, const absl::Status& status) {
  absl::MutexLock lock(&mutex_);
  failures.push_back(fmt::format("step {}: {}", step, ToString(status)));
}

absl::Status RecordingObserver::WaitForCommit(const std::string& path) { return absl::OkStatus(); }

void RecordingObserver::StopDuringStep(int64_t step, StopReason reason) {
  absl::MutexLock lock(&mutex_);
  stop_step_ = step;
  stop_reason_ = reason;
}

TrainOptions ToOptions(const TinyRun& run) {
  return {.steps = run.steps,
          .sequence_length = kSequenceLength,
          .global_batch_samples = run.global_batch_samples,
          .micro_batch_samples = 2,
          .attention = run.attention,
          .schedule = {.peak_learning_rate = 1e-2,
                       .final_ratio = 0.1,
                       .warmup_steps = 2,
                       .total_steps = run.steps},
          .adamw = {},
          .clip_norm = 1.0,
          .seed = run.seed,
          .checkpoint_interval_steps = run.checkpoint_interval_steps,
          .checkpoint = {.folder = run.checkpoint_folder,
                         .name = "tiny-trained",
                         .job_id = "j2",
                         .attempt = 1,
                         .inputs = {"tiny-model:1", "tiny:1"},
                         .tokenizer_folder = run.dataset_folder},
          .learning_rate_ratios = run.learning_rate_ratios,
          .watch = run.watch,
          .validation = run.validation,
          .weight_average = run.weight_average,
          .dynamic = run.dynamic};
}

artefacts::ModelConfig TinyConfig(const TinyRun& run) {
  artefacts::ModelConfig config = TinyMoe();
  config.moe.add_noise = run.gate_noise;
  return config;
}

sampler::SampleSequence TinySequence(const TinyRun& run, const sampler::Dataset& dataset) {
  std::vector<sampler::SampleSequence::Domain> domains;
  for (size_t i = 0; i < dataset.domains().size(); ++i) {
    domains.push_back({.name = dataset.domains()[i].name,
                       .num_samples = dataset.NumSamples(sampler::Split::kTrain,
                                                         static_cast<int>(i), kSequenceLength),
                       .weight = i == 0 ? 0.7 : 0.3});
  }
  return Value(sampler::SampleSequence::Create(run.seed, domains));
}

TrainResult Train(const TinyRun& run, parallel::Communicator& communicator,
                  TrainObserver& observer) {
  const auto dataset = Value(sampler::Dataset::Open(run.dataset_folder));
  const model::ExpertShare share = ShareOf(communicator.rank(), run.expert_parallel);
  model::Model model(TinyConfig(run),
                     {.compute = run.compute, .experts = share, .kernels = run.kernels});
  Trainer trainer(ToOptions(run), {.model = model,
                                   .dataset = *dataset,
                                   .sequence = TinySequence(run, *dataset),
                                   .communicator = communicator,
                                   .observer = observer,
                                   .decisions = run.decisions});
  if (run.resume.has_value()) {
    trainer.Resume(run.resume->path, run.resume->manifest_crc32c);
  } else {
    at::Tensor parameters = RandomParameters(model.config(), share);
    if (run.spoil != nullptr) run.spoil(model.layout(), parameters);
    trainer.Start(parameters);
  }
  return trainer.Run();
}

TrainResult Train(const TinyRun& run, TrainObserver& observer) {
  parallel::SingleRankCommunicator communicator;
  return Train(run, communicator, observer);
}

std::string Fingerprint(const StepReport& report) {
  Json json = ToJson(report);
  json.erase("step_seconds");
  json.erase("tokens_per_second");
  json.erase("model_flops_per_second");
  json.erase("communication_seconds");
  return json.dump();  // doubles are printed so that they read back to the same bits
}

std::vector<std::string> Fingerprints(const std::vector<StepReport>& reports) {
  std::vector<std::string> fingerprints;
  for (const StepReport& report : reports) fingerprints.push_back(Fingerprint(report));
  return fingerprints;
}

}  // namespace moe::training
