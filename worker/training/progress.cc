#include "worker/training/progress.h"

#include "common/status.h"

namespace moe::training {
namespace {

constexpr char kFormat[] = "moe-training-progress";
constexpr int64_t kVersion = 1;

}  // namespace

Json ToJson(const Progress& progress) {
  return {
      {"format", kFormat},
      {"version", kVersion},
      {"step", progress.step},
      {"tokens", progress.tokens},
      {"world_size", progress.world_size},
      {"seed", progress.seed},
      {"data_cursor",
       {{"next_index", progress.data_cursor.next_index},
        {"domain_samples", progress.data_cursor.domain_samples}}},
      {"dataset_manifest_crc32c", progress.dataset_manifest_crc32c},
      {"sampler_version", progress.sampler_version},
      {"watch",
       {{"recent_losses", progress.watch.recent_losses}, {"bad_steps", progress.watch.bad_steps}}}};
}

absl::StatusOr<Progress> ParseProgress(const Json& json, const std::string& path) {
  JsonReader reader(json, path);
  const std::string format = reader.String("format");
  const int64_t version = reader.Int("version");
  Progress progress;
  progress.step = reader.Int("step");
  progress.tokens = reader.Int("tokens");
  progress.world_size = static_cast<int>(reader.Int("world_size"));
  progress.seed = reader.Uint("seed");
  progress.dataset_manifest_crc32c = static_cast<uint32_t>(reader.Uint("dataset_manifest_crc32c"));
  progress.sampler_version = reader.Int("sampler_version");
  const Json& cursor = reader.Object("data_cursor");
  MOE_RETURN_IF_ERROR(reader.status());
  if (format != kFormat || version != kVersion) {
    return InvalidArgument("{}: format '{}' version {}; this program reads '{}' version {}", path,
                           format, version, kFormat, kVersion);
  }

  JsonReader cursor_reader(cursor, path + ": data_cursor");
  progress.data_cursor.next_index = cursor_reader.Int("next_index");
  const Json& domain_samples = cursor_reader.Array("domain_samples");
  MOE_RETURN_IF_ERROR(cursor_reader.status());
  for (const Json& samples : domain_samples) {
    if (!samples.is_number_integer()) {
      return InvalidArgument("{}: data_cursor.domain_samples: not all integers", path);
    }
    progress.data_cursor.domain_samples.push_back(samples.get<int64_t>());
  }

  // Absent in checkpoints of before there was a watch.
  if (!json.contains("watch")) return progress;
  JsonReader watch_reader(json.at("watch"), path + ": watch");
  progress.watch.bad_steps = watch_reader.Int("bad_steps");
  const Json& recent_losses = watch_reader.Array("recent_losses");
  MOE_RETURN_IF_ERROR(watch_reader.status());
  for (const Json& loss : recent_losses) {
    if (!loss.is_number()) return InvalidArgument("{}: watch.recent_losses: not all numbers", path);
    progress.watch.recent_losses.push_back(loss.get<double>());
  }
  return progress;
}

}  // namespace moe::training
