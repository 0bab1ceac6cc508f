// Our side of the scaling benchmark: the same training run on ranks that are threads of this
// process with one core each, connected over loopback; and the planner's figures for many GPUs.
//
//   scaling measure RANKS EXPERT_PARALLEL STEPS FOLDER
//       {"step_s", "loss", "exchange_s", "waited_s", "sent_bytes", "expected_bytes", "ranks",
//       "sent_by_first", "planned_by_first", "memory_bytes"}
//   scaling plan OVERLAP
//       one line for each number of GPUs: {"ranks", "samples", "step_s", "tokens_per_s",
//       "link_s", "exposed_s", "memory_gb"}
//
// tests/bench/scaling.py drives it.
#include <ATen/Context.h>
#include <ATen/Parallel.h>
#include <ATen/core/Tensor.h>
#include <sys/resource.h>

#include <algorithm>
#include <cstdio>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/file.h"
#include "common/json.h"
#include "common/philox.h"
#include "common/status.h"
#include "planner/train_plan.h"
#include "sampler/dataset.h"
#include "sampler/token_shard.h"
#include "storage/artefacts/manifest.h"
#include "tests/unit/worker/parallel/run_ranks.h"
#include "worker/training/ownership.h"
#include "worker/training/random_start.h"
#include "worker/training/trainer.h"

namespace moe {
namespace {

constexpr int64_t kVocabulary = 4096, kSequence = 256;

// About 27 M parameters: a step takes a second or so on one core.
artefacts::ModelConfig SmallMoe() {
  artefacts::ModelConfig config;
  config.vocab_size = kVocabulary;
  config.hidden_size = 384;
  config.intermediate_size = 1536;
  config.num_layers = 12;
  config.num_heads = 6;
  config.num_kv_heads = 2;
  config.head_dim = 64;
  config.context_length = kSequence;
  config.tie_word_embeddings = true;
  config.moe.num_experts = 8;
  config.moe.top_k = 2;
  config.moe.expert_width = 192;
  config.moe.score_scale_factor = 4.0;
  return config;
}

// LLaMA-2-7B as 16 experts of which 4 serve a token.
artefacts::ModelConfig LlamaMoe35B() {
  artefacts::ModelConfig config;
  config.vocab_size = 32000;
  config.hidden_size = 4096;
  config.intermediate_size = 11008;
  config.num_layers = 32;
  config.num_heads = config.num_kv_heads = 32;
  config.head_dim = 128;
  config.context_length = 4096;
  config.moe.num_experts = 16;
  config.moe.top_k = 4;
  config.moe.expert_width = 688;
  config.moe.score_scale_factor = 4.0;
  return config;
}

void CheckOk(const absl::Status& status) {
  if (!status.ok()) throw std::runtime_error(ToString(status));
}
template <typename T>
T Value(absl::StatusOr<T> result) {
  CheckOk(result.status());
  return *std::move(result);
}

void WriteDataset(const std::string& folder) {
  constexpr int64_t kDocuments = 64, kTokens = 4 * kSequence;
  CheckOk(MakeDirectories(JoinPath(folder, "train")));
  CheckOk(MakeDirectories(JoinPath(folder, "heldout")));
  for (const sampler::Split split : {sampler::Split::kTrain, sampler::Split::kHeldout}) {
    auto writer = Value(sampler::TokenShardWriter::Create(
        JoinPath(folder, sampler::ShardPath(split, "c4")), kVocabulary));
    PhiloxGenerator random(1227, RandomStream::kTest, split == sampler::Split::kTrain ? 0 : 1);
    for (int64_t i = 0; i < kDocuments; ++i) {
      std::vector<int32_t> tokens(kTokens);
      for (int32_t& token : tokens) token = static_cast<int32_t>(random.Below(kVocabulary));
      CheckOk(writer->AppendDocument(tokens));
    }
    CheckOk(writer->Finish());
  }
  artefacts::Manifest manifest{.kind = "dataset", .name = "random", .job_id = "j1", .attempt = 1};
  manifest.metadata = {{"vocab_size", kVocabulary},
                       {"tokenizer_crc32c", 0},
                       {"domains",
                        {{{"name", "c4"},
                          {"train_tokens", kDocuments * kTokens},
                          {"train_documents", kDocuments},
                          {"heldout_tokens", kDocuments * kTokens},
                          {"heldout_documents", kDocuments}}}}};
  CheckOk(artefacts::WriteManifest(folder, manifest).status());
}

class Recorder final : public training::TrainObserver {
 public:
  StopReason stop_requested() override { return StopReason::kNone; }
  void OnStep(const training::StepReport& report) override { steps.push_back(report); }
  void OnWarning(int64_t, const std::string&, const std::string&) override {}
  void OnCheckpoint(const training::WrittenCheckpoint&) override {}
  void OnCheckpointFailed(int64_t, const absl::Status& status) override {
    std::fprintf(stderr, "%s\n", ToString(status).c_str());
  }
  absl::Status WaitForCommit(const std::string&) override { return absl::OkStatus(); }
  std::vector<training::StepReport> steps;
};

Json Measure(int ranks, int64_t expert_parallel, int64_t steps, const std::string& folder) {
  at::set_num_threads(1);
  const std::string data = JoinPath(folder, "data");
  if (!FileExists(data)) WriteDataset(data);
  const auto dataset = Value(sampler::Dataset::Open(data));
  const artefacts::ModelConfig config = SmallMoe();
  training::TrainOptions options;
  options.steps = steps;
  options.sequence_length = kSequence;
  options.global_batch_samples = 8;
  options.micro_batch_samples = 2;
  options.schedule.total_steps = steps;
  options.checkpoint_interval_steps = steps;
  options.checkpoint = {.folder = JoinPath(folder, fmt::format("{}-{}", ranks, expert_parallel)),
                        .name = "scaling",
                        .job_id = "j2",
                        .attempt = 1};

  std::vector<Recorder> recorders(static_cast<size_t>(ranks));
  std::vector<training::TrainResult> results(static_cast<size_t>(ranks));
  parallel::RunRanks(ranks, /*timeout_ms=*/60'000, [&](parallel::Communicator& communicator) {
    const size_t rank = static_cast<size_t>(communicator.rank());
    const model::ExpertShare share = training::ShareOf(communicator.rank(), expert_parallel);
    model::Model model(config, {.compute = model::ComputeType::kFp32, .experts = share});
    training::Trainer trainer(
        options, {.model = model,
                  .dataset = *dataset,
                  .sequence = Value(sampler::SampleSequence::Create(
                      options.seed,
                      {{.name = "c4",
                        .num_samples = dataset->NumSamples(sampler::Split::kTrain, 0, kSequence),
                        .weight = 1}})),
                  .communicator = communicator,
                  .observer = recorders[rank]});
    trainer.Start(training::RandomStart(config, options.seed, share));
    results[rank] = trainer.Run();
  });

  std::vector<double> seconds;  // without the first step, which allocates
  double sent_by_first = 0;
  for (const training::StepReport& step : recorders[0].steps) {
    if (step.step == 1) continue;
    seconds.push_back(step.step_seconds);
    sent_by_first += static_cast<double>(step.sent_bytes);
  }
  sent_by_first /= static_cast<double>(seconds.size());
  std::nth_element(seconds.begin(), seconds.begin() + seconds.size() / 2, seconds.end());
  const planner::TrainPlan plan =
      planner::PlanTraining({.model = config,
                             .sequence_length = kSequence,
                             .global_batch_samples = options.global_batch_samples,
                             .micro_batch_samples = options.micro_batch_samples,
                             .ranks = ranks,
                             .expert_parallel = expert_parallel,
                             .bf16 = false},
                            planner::Machine{});
  rusage usage = {};
  getrusage(RUSAGE_SELF, &usage);
  // Gradients to the owners and parameters to everyone: together, each rank sends 2 (R - 1) / R of
  // the arena a step.
  const int64_t arena_bytes = model::ParameterLayout(config).arena_numel() * 4;
  int64_t sent = 0;
  for (const training::TrainResult& result : results) sent += result.exchanged_bytes;
  return {{"ranks", ranks},
          {"step_s", seconds[seconds.size() / 2]},
          {"loss", results[0].last_loss},
          {"exchange_s", results[0].exchange_seconds / static_cast<double>(steps)},
          {"waited_s", results[0].waited_seconds / static_cast<double>(steps)},
          {"sent_bytes", sent / steps},
          {"sent_by_first", sent_by_first},
          {"planned_by_first", plan.sent_bytes_per_step},
          {"memory_bytes", static_cast<int64_t>(usage.ru_maxrss) * 1024},
          {"expected_bytes", 2 * (ranks - 1) * arena_bytes}};
}

void Plan(double overlap) {
  planner::Machine machine = planner::NamedMachine("h100").value();
  machine.overlap = overlap;
  for (const int64_t ranks : {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 896, 1024}) {
    // The paper's 3,584 samples of 4,096 tokens; 1,024 does not divide them.
    const int64_t samples = ranks == 1024 ? 4096 : 3584;
    const planner::TrainPlan plan = planner::PlanTraining({.model = LlamaMoe35B(),
                                                           .sequence_length = 4096,
                                                           .global_batch_samples = samples,
                                                           .micro_batch_samples = 1,
                                                           .ranks = ranks},
                                                          machine);
    const Json line = {{"ranks", ranks},
                       {"samples", samples},
                       {"step_s", plan.step_seconds},
                       {"tokens_per_s", plan.tokens_per_second},
                       {"link_s", plan.link_seconds},
                       {"exposed_s", plan.exposed_seconds},
                       {"memory_gb", static_cast<double>(plan.memory_bytes) / 1e9}};
    std::puts(line.dump().c_str());
  }
}

int Main(int argc, char** argv) {
  if (argc == 6 && std::string(argv[1]) == "measure") {
    std::puts(Measure(std::stoi(argv[2]), std::stoll(argv[3]), std::stoll(argv[4]), argv[5])
                  .dump()
                  .c_str());
    return 0;
  }
  if (argc == 3 && std::string(argv[1]) == "plan") {
    Plan(std::stod(argv[2]));
    return 0;
  }
  std::fprintf(stderr,
               "usage: scaling measure RANKS EXPERT_PARALLEL STEPS FOLDER | plan OVERLAP\n");
  return 2;
}

}  // namespace
}  // namespace moe

int main(int argc, char** argv) {
  try {
    return moe::Main(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "scaling: %s\n", error.what());
    return 1;
  }
}
