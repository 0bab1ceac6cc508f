// moe-prepare: the one rank of a prepare attempt. Started by moe-worker, or by hand with a run
// folder (docs/formats/run-folder.md).
//
// Exit codes: 0 finished or stopped as told, 1 failed (the report says why), 2 it could not start:
// usage, or no readable run folder.
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <new>
#include <string>

#include "common/clock.h"
#include "common/file.h"
#include "common/log.h"
#include "common/run_channel.h"
#include "common/status.h"
#include "sampler/prepare.h"

namespace moe::sampler {
namespace {

constexpr int kExitCannotStart = 2;
constexpr int64_t kProgressIntervalMs = 500;

struct Flags {
  std::string run_dir;
  int rank = 0;
  PrepareOptions prepare;
  std::string log_format = "text";
};

struct Run {
  PrepareSpec spec;
  PrepareOutput output;
};

// The rules and filters of a run spec; `spec` is that part of it.
void ReadFilters(JsonReader& spec, PrepareSpec& prepare) {
  prepare.remove_duplicates = spec.Bool("remove_duplicates", false);
  prepare.min_characters = spec.Int("min_characters", 0);
  prepare.max_characters = spec.Int("max_characters", 0);
  if (spec.Has("near_duplicates")) {
    JsonReader near(spec.Object("near_duplicates"), spec.path() + ".near_duplicates");
    prepare.near_duplicate_similarity = near.Double("similarity", 0.8);
  }
  if (spec.Has("language")) {
    JsonReader language(spec.Object("language"), spec.path() + ".language");
    prepare.language = {.languages = language.Strings("languages"),
                        .min_share = language.Double("min_share", 0.5),
                        .domains = language.Strings("domains")};
  }
  if (!spec.Has("filters")) return;
  for (const Json& item : spec.Array("filters")) {
    JsonReader filter(item, spec.path() + ".filters");
    prepare.filters.push_back({.score = filter.String("score", ""),
                               .drop = filter.Double("drop", 0),
                               .domains = filter.Strings("domains")});
  }
}

absl::StatusOr<Run> ReadRunSpec(const Json& json) {
  JsonReader reader(json, "run.json");
  if (const std::string kind = reader.String("kind"); kind != "prepare") {
    MOE_RETURN_IF_ERROR(reader.status());
    return InvalidArgument("run.json: moe-prepare runs prepare jobs, not {} jobs", kind);
  }
  Run run;
  run.output.job_id = reader.String("job_id");
  run.output.attempt = static_cast<int32_t>(reader.Int("attempt"));
  JsonReader output(reader.Object("output"), "run.json: output");
  run.output.name = output.String("name");
  run.output.folder = output.String("dir");
  run.output.work_folder = output.String("work_dir", run.output.folder + ".unfinished");
  MOE_RETURN_IF_ERROR(output.status());

  JsonReader inputs(reader.Object("inputs"), "run.json: inputs");
  JsonReader tokenizer(inputs.Object("tokenizer"), "run.json: inputs.tokenizer");
  run.spec.tokenizer_path = tokenizer.String("path");
  run.output.inputs = {tokenizer.String("artefact", run.spec.tokenizer_path)};
  if (inputs.Has("scores_from")) {
    JsonReader scores(inputs.Object("scores_from"), "run.json: inputs.scores_from");
    run.spec.scores_from = scores.String("path");
    run.output.inputs.push_back(scores.String("artefact", run.spec.scores_from));
    MOE_RETURN_IF_ERROR(scores.status());
  }
  MOE_RETURN_IF_ERROR(inputs.status());
  MOE_RETURN_IF_ERROR(tokenizer.status());

  JsonReader spec(reader.Object("spec"), "run.json: spec");
  for (const Json& item : spec.Array("domains")) {
    JsonReader domain(item, "run.json: spec.domains");
    run.spec.domains.push_back({.name = domain.String("name"),
                                .paths = domain.Strings("paths"),
                                .set = domain.String("set", "")});
    MOE_RETURN_IF_ERROR(domain.status());
    for (const std::string& path : run.spec.domains.back().paths) {
      run.output.inputs.push_back(path);
    }
  }
  run.spec.heldout_fraction = spec.Double("heldout_fraction", run.spec.heldout_fraction);
  run.spec.max_tokens_per_domain = spec.Int("max_tokens_per_domain", 0);
  if (spec.Has("add_bos")) run.spec.add_bos = spec.Bool("add_bos");
  const std::string on_bad_document = spec.String("on_bad_document", "skip");
  ReadFilters(spec, run.spec);
  if (spec.Has("conversations")) {
    JsonReader reader(spec.Object("conversations"), "run.json: spec.conversations");
    ConversationOptions& conversations = run.spec.conversations.emplace();
    conversations.chat_template = reader.String("template", "");
    conversations.max_tokens = reader.Int("max_tokens", conversations.max_tokens);
    if (reader.Has("system_prompt")) conversations.system = reader.String("system_prompt");
    MOE_RETURN_IF_ERROR(reader.status());
  }
  MOE_RETURN_IF_ERROR(spec.status());
  if (on_bad_document != "skip" && on_bad_document != "fail") {
    return InvalidArgument("run.json: on_bad_document is '{}'; use skip or fail", on_bad_document);
  }
  if (on_bad_document == "fail") run.spec.on_bad_document = OnBadDocument::kFail;
  MOE_RETURN_IF_ERROR(reader.status());
  return run;
}

class ChannelObserver final : public PrepareObserver {
 public:
  ChannelObserver(RunChannel& channel, const Clock& clock) : channel_(channel), clock_(clock) {}

  void OnProgress(const PrepareProgress& progress) override {
    const int64_t now = clock_.MonotonicMillis();
    const bool news = progress.phase != phase_ || progress.bytes == progress.total_bytes;
    if (!news && now - reported_millis_ < kProgressIntervalMs) return;
    if (progress.phase != phase_) {
      spdlog::info("phase=\"{}\" documents={}", progress.phase, progress.documents);
    }
    phase_ = progress.phase;
    reported_millis_ = now;
    channel_.Report("progress", {{"done", progress.bytes},
                                 {"total", progress.total_bytes},
                                 {"unit", "bytes"},
                                 {"phase", progress.phase}});
  }
  void OnResume(const PrepareProgress& progress) override {
    spdlog::info("going on from an earlier attempt: documents={} bytes={} of {}",
                 progress.documents, progress.bytes, progress.total_bytes);
  }
  void OnRestart(const std::string& why) override {
    spdlog::warn("an earlier attempt's work is of no use, starting over: {}", why);
  }
  bool StopRequested() override { return channel_.stop_requested() != StopReason::kNone; }

 private:
  RunChannel& channel_;
  const Clock& clock_;
  std::string phase_;
  int64_t reported_millis_ = 0;
};

// Returns the line of results.
absl::StatusOr<std::string> ReadSpecAndRun(RunChannel& channel, const PrepareOptions& options) {
  MOE_ASSIGN_OR_RETURN(const Run run, ReadRunSpec(channel.run_spec()));
  channel.Report("started",
                 {{"pid", getpid()}, {"device", fmt::format("cpu, {} threads", options.threads)}});
  spdlog::info("job={} attempt={} kind=prepare threads={}", run.output.job_id, run.output.attempt,
               options.threads);
  const RealClock clock;
  ChannelObserver observer(channel, clock);
  const int64_t start = clock.MonotonicMillis();
  MOE_ASSIGN_OR_RETURN(const PreparedDataset dataset,
                       PrepareDataset(run.spec, run.output, options, observer));
  const double seconds = static_cast<double>(clock.MonotonicMillis() - start) / 1e3;
  channel.Report("artefact", {{"name", run.output.name},
                              {"kind", "ARTEFACT_KIND_DATASET"},
                              {"path", run.output.folder},
                              {"manifest_crc32c", dataset.manifest.crc32c},
                              {"size_bytes", dataset.manifest.size_bytes},
                              {"metadata", dataset.metadata},
                              {"inputs", run.output.inputs},
                              {"write_seconds", seconds}});
  MOE_RETURN_IF_ERROR(channel.WaitForCommit(run.output.folder));
  if (const absl::Status removed = RemoveTree(run.output.work_folder); !removed.ok()) {
    spdlog::warn("cannot remove {}: {}", run.output.work_folder, Message(removed));
  }
  return fmt::format("{} tokens in {} documents of {} domains, {:.1f} s, {:.0f} tokens/s",
                     dataset.tokens, dataset.documents, run.spec.domains.size(), seconds,
                     static_cast<double>(dataset.tokens) / std::max(seconds, 1e-3));
}

// The name of a moe.v1.Cause: decides whether there is another attempt.
const char* CauseOf(const absl::Status& status) {
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kDataLoss:
      return "CAUSE_BAD_INPUT";
    case absl::StatusCode::kResourceExhausted:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kUnavailable:
      return "CAUSE_STORAGE";
    default:
      return "CAUSE_INTERNAL";
  }
}

const char* CauseOf(StopReason reason) {
  switch (reason) {
    case StopReason::kDrain:
      return "CAUSE_DRAINED";
    case StopReason::kLeaseExpired:
      return "CAUSE_LEASE_EXPIRED";
    case StopReason::kCancel:
    case StopReason::kNone:
      break;
  }
  return "CAUSE_CANCELLED";
}

int Fail(RunChannel& channel, const std::string& cause, const std::string& error) {
  spdlog::error("cause={} error={}", cause, error);
  channel.Report("failed", {{"cause", cause}, {"error", error}});
  return 1;
}

// Runs to the last report and returns the exit code.
int RunToEnd(RunChannel& channel, const PrepareOptions& options) try {
  const absl::StatusOr<std::string> summary = ReadSpecAndRun(channel, options);
  if (summary.ok()) {
    spdlog::info("finished: {}", *summary);
    channel.Report("finished", {{"summary", *summary}});
    return 0;
  }
  const StopReason reason = channel.stop_requested();
  if (absl::IsCancelled(summary.status()) && reason != StopReason::kNone) {
    spdlog::info("stopped cause={}", CauseOf(reason));
    channel.Report("stopped", {{"cause", CauseOf(reason)}});
    return 0;
  }
  return Fail(channel, CauseOf(summary.status()), Message(summary.status()));
} catch (const std::bad_alloc&) {
  return Fail(channel, "CAUSE_OUT_OF_MEMORY",
              "the process could not get more memory; cut the largest documents into several");
} catch (const std::exception& error) {
  return Fail(channel, "CAUSE_INTERNAL", error.what());
}

int Main(int argc, char** argv) {
  CLI::App app("The rank of a prepare attempt: raw text to a dataset.", "moe-prepare");
  Flags flags;
  app.add_option("--run-dir", flags.run_dir, "The attempt's run folder, with run.json")->required();
  app.add_option("--rank", flags.rank, "Number of this rank: 0")->check(CLI::Range(0, 0));
  app.add_option("--threads", flags.prepare.threads, "Threads to score and tokenise with")
      ->check(CLI::Range(1, 1024));
  app.add_option("--batch-bytes", flags.prepare.batch_bytes,
                 "Text to work on at a time; bounds memory")
      ->check(CLI::Range(size_t{1}, size_t{1} << 30));
  app.add_option("--checkpoint-bytes", flags.prepare.checkpoint_bytes,
                 "Text between two points at which a killed process can be gone on with")
      ->check(CLI::Range(size_t{1}, size_t{1} << 40));
  app.add_option("--log-format", flags.log_format, "text or json")
      ->check(CLI::IsMember({"text", "json"}));
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : kExitCannotStart;
  }
  if (const absl::Status status =
          InitLogging({.program = "moe-prepare", .format = flags.log_format});
      !status.ok()) {
    std::fprintf(stderr, "moe-prepare: %s\n", Message(status).c_str());
    return kExitCannotStart;
  }
  const auto channel = RunChannel::Open({.run_dir = flags.run_dir, .rank = flags.rank});
  if (!channel.ok()) {
    spdlog::error("cannot open the run folder: {}", Message(channel.status()));
    return kExitCannotStart;
  }
  return RunToEnd(**channel, flags.prepare);
}

}  // namespace
}  // namespace moe::sampler

int main(int argc, char** argv) { return moe::sampler::Main(argc, argv); }
