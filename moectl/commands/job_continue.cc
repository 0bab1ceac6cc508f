// moectl job continue: a run goes on in a new job, on another number of slots or for more steps.
#include <fmt/format.h>

#include <memory>
#include <optional>
#include <string>

#include "common/status.h"
#include "moectl/commands/commands.h"
#include "moectl/render/job_text.h"

namespace moe::moectl {
namespace {

struct ContinueOptions {
  std::string job;
  std::string checkpoint;  // "name:version"
  std::optional<int32_t> slots, expert_parallel, steps;
};

moe::v1::TrainSpec* TrainingOf(moe::v1::JobSpec& spec) {
  if (spec.has_train()) return spec.mutable_train();
  return spec.has_finetune() ? spec.mutable_finetune() : nullptr;
}

// Two jobs must not both go on with one run.
absl::Status CheckAtRest(const moe::v1::Job& job) {
  if (HasEnded(job.state())) return absl::OkStatus();
  if (job.state() == moe::v1::JOB_STATE_STOPPING) {
    return FailedPrecondition("job {} ('{}') is still stopping; try again when it has stopped",
                              job.job_id(), job.spec().name());
  }
  const bool has_ranks =
      job.state() == moe::v1::JOB_STATE_STARTING || job.state() == moe::v1::JOB_STATE_RUNNING;
  if (job.held() && !has_ranks) return absl::OkStatus();
  return FailedPrecondition(
      "job {} ('{}') is {}; hold it first, so that it writes a checkpoint: moectl job hold {}",
      job.job_id(), job.spec().name(), StateWord(job.state()), job.job_id());
}

// The version that the checkpoint was made from, so that a newer one of that name changes nothing.
void Pin(const moe::v1::Artefact& checkpoint, moe::v1::InputRef& input) {
  for (const std::string& made_from : checkpoint.inputs()) {
    if (made_from.substr(0, made_from.rfind(':')) == input.artefact()) {
      input.set_artefact(made_from);
    }
  }
}

// The job again, on its own, from the checkpoint on.
absl::StatusOr<moe::v1::JobSpec> SpecOf(const ContinueOptions& options, const moe::v1::Job& job,
                                        const moe::v1::Artefact& checkpoint) {
  moe::v1::JobSpec spec = job.spec();
  for (auto* needs : {spec.mutable_needs(), spec.mutable_after_ok(), spec.mutable_after_any(),
                      spec.mutable_after_not_ok()}) {
    needs->Clear();
  }
  spec.clear_array();
  moe::v1::TrainSpec& training = *TrainingOf(spec);
  training.set_start("continue");
  training.mutable_model()->set_artefact(
      fmt::format("{}:{}", checkpoint.name(), checkpoint.version()));
  Pin(checkpoint, *training.mutable_dataset());
  if (training.mixture().dynamic().has_reference()) {
    Pin(checkpoint, *training.mutable_mixture()->mutable_dynamic()->mutable_reference());
  }
  if (options.slots.has_value()) spec.mutable_resources()->set_slots(*options.slots);
  if (options.expert_parallel.has_value()) {
    training.mutable_parallel()->set_expert(*options.expert_parallel);
  }
  if (options.steps.has_value()) training.set_steps(*options.steps);
  return spec;
}

absl::StatusOr<ExitCode> Continue(const ContinueOptions& options, const CommandContext& context) {
  MOE_ASSIGN_OR_RETURN(CoordinatorClient client, context.Connect());
  MOE_ASSIGN_OR_RETURN(moe::v1::Job job, client.GetJob(WithoutNoun(options.job)));
  if (TrainingOf(*job.mutable_spec()) == nullptr) {
    return InvalidArgument("job {} ('{}') trains nothing; only train and finetune jobs go on",
                           job.job_id(), job.spec().name());
  }
  MOE_RETURN_IF_ERROR(CheckAtRest(job));
  if (options.checkpoint.empty() && job.outputs().empty()) {
    return FailedPrecondition("job {} ('{}') has no checkpoint to go on from; name one with --from",
                              job.job_id(), job.spec().name());
  }
  MOE_ASSIGN_OR_RETURN(const moe::v1::Artefact checkpoint,
                       client.GetArtefact(options.checkpoint.empty() ? *job.outputs().rbegin()
                                                                     : options.checkpoint));
  moe::v1::SubmitPipelineRequest request;
  request.set_request_id(MakeRequestId());
  request.set_pipeline_name(job.spec().name());
  MOE_ASSIGN_OR_RETURN(*request.add_jobs(), SpecOf(options, job, checkpoint));
  MOE_ASSIGN_OR_RETURN(const moe::v1::SubmitPipelineResponse response, client.Submit(request));
  const std::string& next = response.jobs(0).job_id();
  context.world.out << fmt::format("job/{} submitted ({}, from {}:{} at step {})\n", next,
                                   job.spec().name(), checkpoint.name(), checkpoint.version(),
                                   checkpoint.step());
  if (HasEnded(job.state())) return ExitCode::kDone;
  MOE_ASSIGN_OR_RETURN(job,
                       client.CancelJob({.job = job.job_id(), .reason = "goes on as job " + next}));
  context.world.out << fmt::format("job/{} {}\n", job.job_id(), StateWord(job.state()));
  return ExitCode::kDone;
}

}  // namespace

void AddJobContinue(CLI::App& job, CommandContext& context) {
  auto options = std::make_shared<ContinueOptions>();
  CLI::App* command =
      job.add_subcommand("continue", "Go on with a run in a new job, on other slots or for longer");
  command->add_option("JOB", options->job, "A train or finetune job that has ended or is held")
      ->required();
  command->add_option("--slots", options->slots, "Ranks of the new job; default as before")
      ->type_name("N");
  command
      ->add_option("--expert-parallel", options->expert_parallel,
                   "Ranks among whom experts are shared out (parallel.expert); default as before")
      ->type_name("N");
  command
      ->add_option("--steps", options->steps,
                   "Steps in all, counted from the run's beginning; default as before")
      ->type_name("N");
  command->add_option("--from", options->checkpoint, "Checkpoint to go on from; default the newest")
      ->type_name("NAME:VERSION");
  command->footer(
      "The new job reads the samples that the old one would have read, with the same optimizer\n"
      "state, and takes over its decisions on domain weights. A job that was held is cancelled.\n\n"
      "Examples:\n"
      "  moectl job hold train                  # writes a checkpoint and gives its slots back\n"
      "  moectl job continue train --slots 2");
  command->callback([options, &context] {
    context.run = [options, &context] { return Continue(*options, context); };
  });
}

}  // namespace moe::moectl
