#include "worker/training/checkpoint_writer.h"

#include <ATen/Parallel.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/zero.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <exception>
#include <utility>

#include "common/check.h"
#include "common/crash_point.h"
#include "common/file.h"
#include "common/huge_pages.h"
#include "common/status.h"
#include "storage/artefacts/direct_io.h"
#include "storage/artefacts/manifest.h"
#include "worker/model/state_files.h"
#include "worker/training/ownership.h"

namespace moe::training {
namespace {

using Clock = std::chrono::steady_clock;

// The slowest rank may take this long to write its file.
constexpr int64_t kWriteTimeoutMs = 30 * 60 * 1000;

// What belongs to a tokenizer, in the folders of Hugging Face models.
constexpr const char* kTokenizerFiles[] = {
    "added_tokens.json", "generation_config.json", "special_tokens_map.json",
    "tokenizer.json",    "tokenizer.model",        "tokenizer_config.json",
};

double SecondsSince(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// fp32 of any device to the CPU, when all that is to change `from` has done so.
void CopyToHost(const at::Tensor& from, at::Tensor to) {
  if (!from.is_cpu()) {
    to.copy_(from);
    return;
  }
  constexpr int64_t kGrain = 1 << 20;
  const float* source = from.const_data_ptr<float>();
  float* target = to.mutable_data_ptr<float>();
  at::parallel_for(0, from.numel(), kGrain, [&](int64_t begin, int64_t end) {
    std::memcpy(target + begin, source + begin, static_cast<size_t>(end - begin) * sizeof(float));
  });
}

std::vector<model::ParameterLayout::Range> WholeRanges(const model::ParameterLayout& layout,
                                                       const std::vector<parallel::Range>& owned) {
  std::vector<model::ParameterLayout::Range> whole;
  for (const parallel::Range& range : owned) {
    const auto ranges = layout.WholeRanges({range.begin, range.end});
    whole.insert(whole.end(), ranges.begin(), ranges.end());
  }
  // A rank that owns nothing writes a file that holds nothing.
  if (whole.empty()) whole.push_back({0, 0});
  return whole;
}

// A status as ranks exchange it: of fixed size.
struct WireStatus {
  int32_t code = 0;
  char message[500] = {};

  WireStatus() = default;
  explicit WireStatus(const absl::Status& status) : code(static_cast<int32_t>(status.code())) {
    const std::string text = Message(status);
    std::memcpy(message, text.data(), std::min(text.size(), sizeof(message) - 1));
  }
  absl::Status ToStatus() const {
    return absl::Status(static_cast<absl::StatusCode>(code), std::string(message));
  }
};

// What a rank tells the others of its state file.
struct ShardOutcome {
  WireStatus status;
  uint64_t size_bytes = 0;
  uint32_t crc32c = 0;
};

}  // namespace

Json ToJson(const WrittenCheckpoint& checkpoint) {
  return {{"name", checkpoint.name},
          {"kind", "ARTEFACT_KIND_CHECKPOINT"},
          {"path", checkpoint.path},
          {"manifest_crc32c", checkpoint.manifest_crc32c},
          {"size_bytes", checkpoint.size_bytes},
          {"metadata", checkpoint.metadata},
          {"inputs", checkpoint.inputs},
          {"step", checkpoint.step},
          {"write_seconds", checkpoint.write_seconds},
          {"blocked_seconds", checkpoint.blocked_seconds}};
}

CheckpointWriter::CheckpointWriter(const CheckpointOptions& options,
                                   const artefacts::ModelConfig& config,
                                   const model::ParameterLayout& layout,
                                   parallel::Communicator& communicator, Callbacks callbacks)
    : options_(options),
      config_(config),
      owned_(OwnedRanges(layout, communicator)),
      whole_ranges_(WholeRanges(layout, owned_)),
      whole_numel_(layout.whole_numel()),
      communicator_(communicator.Split("checkpoint", kWriteTimeoutMs)),
      callbacks_(std::move(callbacks)) {
  const at::TensorOptions host =
      at::TensorOptions().dtype(at::kFloat).pinned_memory(options.from_gpu);
  const int64_t owned = TotalNumel(owned_);
  const auto count = static_cast<int64_t>(model::StateTensors(options.keep_average).size());
  constexpr int64_t kAlignment = artefacts::kDirectAlignment / sizeof(float);
  const at::Tensor memory = at::empty({count * owned + kAlignment}, host);
  AdviseHugePages(memory.mutable_data_ptr(), memory.nbytes());
  const auto address = reinterpret_cast<uintptr_t>(memory.const_data_ptr()) / sizeof(float);
  const auto skipped = static_cast<int64_t>((kAlignment - address % kAlignment) % kAlignment);
  all_staging_ = memory.narrow(0, skipped, count * owned);
  // Written to once, so that the step loop does not wait for page faults in the first checkpoint.
  all_staging_.zero_();
  for (int64_t i = 0; i < count; ++i) {
    staging_.push_back(all_staging_.narrow(0, i * owned, owned));
  }
}

CheckpointWriter::~CheckpointWriter() {
  if (thread_.joinable()) thread_.join();
}

std::string CheckpointWriter::Path(int64_t step) const {
  return JoinPath(options_.folder, fmt::format("step-{:08d}", step));
}

void CheckpointWriter::Save(const Progress& progress, const at::Tensor& parameters,
                            const at::Tensor& exp_avg, const at::Tensor& exp_avg_sq,
                            const at::Tensor& average) {
  std::vector<at::Tensor> kept = {exp_avg, exp_avg_sq};
  if (options_.keep_average == model::KeepAverage::kAlways) kept.push_back(average);
  const Clock::time_point start = Clock::now();
  Wait().IgnoreError();  // told through on_failed already
  int64_t begin = 0;
  for (const parallel::Range& range : owned_) {
    CopyToHost(parameters.narrow(0, range.begin, range.numel()),
               staging_[0].narrow(0, begin, range.numel()));
    begin += range.numel();
  }
  for (size_t i = 0; i < kept.size(); ++i) {
    MOE_CHECK(kept[i].numel() == staging_[i + 1].numel());
    CopyToHost(kept[i], staging_[i + 1]);
  }
  const double blocked_seconds = SecondsSince(start);
  thread_ = std::thread(
      [this, progress, blocked_seconds] { last_status_ = Write(progress, blocked_seconds); });
}

absl::Status CheckpointWriter::Wait() {
  if (thread_.joinable()) thread_.join();
  return last_status_;
}

std::optional<CheckpointPlace> CheckpointWriter::WaitForNewest() {
  Wait().IgnoreError();  // told through on_failed already
  struct {
    int64_t step;
    uint32_t crc32c;
  } newest = {newest_step_, newest_crc32c_};
  communicator_->BroadcastBytes(&newest, sizeof(newest), 0);
  if (newest.step == 0) return std::nullopt;
  return CheckpointPlace{.path = Path(newest.step), .manifest_crc32c = newest.crc32c};
}

absl::Status CheckpointWriter::Write(const Progress& progress, double blocked_seconds) {
  const Clock::time_point start = Clock::now();
  const std::string folder = Path(progress.step);
  const bool is_first_rank = communicator_->rank() == 0;
  WrittenCheckpoint written;
  absl::Status status;
  try {
    status = WriteTogether(folder, progress, written);
  } catch (const std::exception& error) {
    status = Unavailable("{}", error.what());
  }
  if (!is_first_rank) return status;

  if (status.ok()) {
    newest_step_ = progress.step;
    newest_crc32c_ = written.manifest_crc32c;
    written.write_seconds = SecondsSince(start);
    written.blocked_seconds = blocked_seconds;
    callbacks_.on_written(written);
    CrashPoint("checkpoint_after_report");
    return absl::OkStatus();
  }
  status = Annotate(status, fmt::format("writing checkpoint {}", folder));
  if (const absl::Status removed = RemoveTree(folder); !removed.ok()) {
    status = Annotate(status, fmt::format("and removing it failed ({})", Message(removed)));
  }
  callbacks_.on_failed(progress.step, status);
  return status;
}

absl::Status CheckpointWriter::WriteTogether(const std::string& folder, const Progress& progress,
                                             WrittenCheckpoint& written) {
  communicator_->set_step(progress.step);
  const int rank = communicator_->rank(), world_size = communicator_->world_size();
  ShardOutcome mine;
  absl::StatusOr<artefacts::ManifestFile> shard =
      WriteShard(folder, model::StateFileName(rank, world_size));
  if (shard.ok()) {
    mine.size_bytes = shard->size_bytes;
    mine.crc32c = shard->crc32c;
  } else {
    mine.status = WireStatus(shard.status());
  }
  std::vector<ShardOutcome> outcomes(static_cast<size_t>(world_size));
  communicator_->AllGatherBytes(&mine, sizeof(mine), outcomes.data());

  std::vector<artefacts::ManifestFile> shards;
  for (int other = 0; other < world_size; ++other) {
    const ShardOutcome& outcome = outcomes[static_cast<size_t>(other)];
    MOE_RETURN_IF_ERROR(Annotate(outcome.status.ToStatus(), fmt::format("rank {}", other)));
    shards.push_back({.path = model::StateFileName(other, world_size),
                      .size_bytes = outcome.size_bytes,
                      .crc32c = outcome.crc32c});
  }

  WireStatus completed;
  if (rank == 0) completed = WireStatus(Complete(folder, progress, shards, written));
  communicator_->BroadcastBytes(&completed, sizeof(completed), 0);
  return completed.ToStatus();
}

absl::StatusOr<artefacts::ManifestFile> CheckpointWriter::WriteShard(const std::string& folder,
                                                                     const std::string& name) {
  CrashPoint("checkpoint_before_shard");
  MOE_RETURN_IF_ERROR(MakeDirectories(folder));
  MOE_ASSIGN_OR_RETURN(const std::unique_ptr<artefacts::SafetensorsWriter> writer,
                       model::CreateStateFile(JoinPath(folder, name), whole_ranges_, whole_numel_,
                                              options_.keep_average));
  // What is staged stays so until the file is written: Wait comes before the next copy.
  MOE_RETURN_IF_ERROR(writer->AppendKept(all_staging_.const_data_ptr(), all_staging_.nbytes()));
  CrashPoint("checkpoint_mid_shard");
  MOE_ASSIGN_OR_RETURN(const artefacts::SafetensorsWriter::Result result, writer->Finish());
  return artefacts::ManifestFile{
      .path = name, .size_bytes = result.size_bytes, .crc32c = result.crc32c};
}

absl::Status CheckpointWriter::Complete(const std::string& folder, const Progress& progress,
                                        const std::vector<artefacts::ManifestFile>& shards,
                                        WrittenCheckpoint& written) {
  const Json config = artefacts::ToHfConfig(config_, "float32");
  const Json progress_json = ToJson(progress);
  std::vector<std::string> names = {"config.json", kProgressFile};
  MOE_RETURN_IF_ERROR(WriteFileAtomically(JoinPath(folder, "config.json"), config.dump(2) + "\n"));
  MOE_RETURN_IF_ERROR(
      WriteFileAtomically(JoinPath(folder, kProgressFile), progress_json.dump(2) + "\n"));
  for (const char* name : kTokenizerFiles) {
    const std::string source = JoinPath(options_.tokenizer_folder, name);
    if (!FileExists(source)) continue;
    MOE_ASSIGN_OR_RETURN(const std::string content, ReadFile(source));
    MOE_RETURN_IF_ERROR(WriteFileAtomically(JoinPath(folder, name), content));
    names.push_back(name);
  }

  artefacts::Manifest manifest = {.kind = "checkpoint",
                                  .name = options_.name,
                                  .job_id = options_.job_id,
                                  .attempt = options_.attempt,
                                  .inputs = options_.inputs,
                                  .metadata = config,
                                  .files = {}};
  manifest.metadata.update({{"step", progress.step},
                            {"tokens", progress.tokens},
                            {"world_size", progress.world_size},
                            {"data_cursor", progress_json.at("data_cursor")},
                            {"sampler_version", progress.sampler_version}});
  for (const std::string& name : names) {
    MOE_ASSIGN_OR_RETURN(artefacts::ManifestFile file, artefacts::DescribeFile(folder, name));
    if (name == "tokenizer.json" ||
        (name == "tokenizer.model" && !manifest.metadata.contains("tokenizer_crc32c"))) {
      manifest.metadata["tokenizer_crc32c"] = file.crc32c;
    }
    manifest.files.push_back(std::move(file));
  }
  // What the others wrote must be there as this host sees it.
  manifest.files.insert(manifest.files.end(), shards.begin(), shards.end());
  MOE_RETURN_IF_ERROR(artefacts::CheckSizes(folder, manifest));
  std::sort(manifest.files.begin(), manifest.files.end(),
            [](const auto& a, const auto& b) { return a.path < b.path; });

  CrashPoint("checkpoint_before_manifest");
  MOE_ASSIGN_OR_RETURN(const artefacts::WrittenManifest result,
                       artefacts::WriteManifest(folder, manifest));
  CrashPoint("checkpoint_after_manifest");
  written = {.name = options_.name,
             .path = folder,
             .manifest_crc32c = result.crc32c,
             .size_bytes = result.size_bytes,
             .step = progress.step,
             .metadata = std::move(manifest.metadata),
             .inputs = options_.inputs};
  return absl::OkStatus();
}

}  // namespace moe::training
