#include "worker/training/trainer.h"

#include <ATen/ops/zeros.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <utility>

#include "common/check.h"
#include "common/crash_point.h"
#include "common/status.h"
#include "planner/flops.h"
#include "worker/evaluation/read_batch.h"
#include "worker/training/arena_check.h"
#include "worker/training/heldout_losses.h"
#include "worker/training/ownership.h"

namespace moe::training {
namespace {

using Clock = std::chrono::steady_clock;

// Phases of a step, as the coordinator knows them (coordinator/run_limits.cc).
constexpr char kComputes[] = "step";
constexpr char kWaitsForRanks[] = "waits for the other ranks";

// The constructor's Validate, as an expression for the initialiser list: nothing may be computed
// from options that were refused.
const TrainOptions& Validated(const TrainOptions& options, const Trainer::Collaborators& with) {
  const absl::Status status =
      Validate(options, with.model, with.dataset, with.communicator.world_size());
  if (!status.ok()) throw std::invalid_argument(Message(status));
  return options;
}

StatisticsShape ShapeOf(const artefacts::ModelConfig& config, int64_t micro_batch_samples) {
  return {.batch_samples = static_cast<size_t>(micro_batch_samples),
          .num_layers = config.is_moe() ? static_cast<size_t>(config.num_layers) : 0,
          .num_experts = static_cast<size_t>(config.moe.num_experts)};
}

// Held-out text is read as the run reads its own, for losses that compare.
evaluation::PerplexityOptions HeldoutOptionsOf(const TrainOptions& options, int64_t samples) {
  return {.sequence_length = options.sequence_length,
          .max_samples_per_domain = samples,
          .batch_samples = options.micro_batch_samples,
          .attention = options.attention};
}

std::vector<std::vector<DecaySegment>> SegmentsOf(const model::ParameterLayout& layout,
                                                  const std::vector<parallel::Range>& owned,
                                                  const LearningRateRatios& ratios) {
  std::vector<std::vector<DecaySegment>> segments;
  for (const parallel::Range& range : owned) {
    segments.push_back(DecaySegments(layout, range, ratios));
  }
  return segments;
}

// Connects the model to the ranks that hold the other experts; nullptr where it holds all.
parallel::Communicator* ShareExperts(model::Model& model, parallel::Communicator& communicator,
                                     int64_t timeout_ms) {
  if (model.layout().share().count == 1) return nullptr;
  std::unique_ptr<parallel::Communicator> group =
      communicator.Split("experts", ExpertGroup(model.layout(), communicator), timeout_ms);
  parallel::Communicator* const connected = group.get();
  model.ShareExperts(std::move(group));
  return connected;
}

CheckpointOptions CheckpointOptionsOf(const TrainOptions& options, const model::Model& model) {
  CheckpointOptions result = options.checkpoint;
  result.from_gpu = model.device().is_cuda();
  result.keep_average =
      options.weight_average.decay > 0 ? model::KeepAverage::kAlways : model::KeepAverage::kNever;
  return result;
}

}  // namespace

CheckpointError::CheckpointError(const absl::Status& status)
    : std::runtime_error(Message(status)), status_(status) {}

absl::Status Validate(const TrainOptions& options, const model::Model& model,
                      const sampler::Dataset& dataset, int world_size) {
  const artefacts::ModelConfig& config = model.config();
  if (options.steps < 1) return InvalidArgument("steps={}; at least 1", options.steps);
  if (options.sequence_length < 2 || options.sequence_length > config.context_length) {
    return InvalidArgument("sequence_length={}; from 2 to the model's context of {}",
                           options.sequence_length, config.context_length);
  }
  if (options.micro_batch_samples < 1) {
    return InvalidArgument("micro_batch_samples={}; at least 1", options.micro_batch_samples);
  }
  const int64_t multiple = options.micro_batch_samples * world_size;
  if (options.global_batch_samples < 1 || options.global_batch_samples % multiple != 0) {
    return InvalidArgument(
        "global_batch_samples={} is not a multiple of micro_batch_samples={} x {} ranks; use {}",
        options.global_batch_samples, options.micro_batch_samples, world_size,
        std::max<int64_t>(1, options.global_batch_samples / multiple) * multiple);
  }
  if (options.schedule.total_steps != options.steps) {
    return InvalidArgument("the schedule is for {} steps, the run for {}",
                           options.schedule.total_steps, options.steps);
  }
  if (!(options.schedule.peak_learning_rate > 0) ||
      !std::isfinite(options.schedule.peak_learning_rate)) {
    return InvalidArgument("learning_rate={}; above 0", options.schedule.peak_learning_rate);
  }
  if (!(options.clip_norm >= 0)) {
    return InvalidArgument("clip_norm={}; 0 for no clipping, or above", options.clip_norm);
  }
  if (options.checkpoint_interval_steps < 1) {
    return InvalidArgument("checkpoint.interval_steps={}; at least 1",
                           options.checkpoint_interval_steps);
  }
  // A model's vocabulary may be padded; whose tokenizer it is, the job has checked.
  if (dataset.vocab_size() > config.vocab_size) {
    return InvalidArgument(
        "the dataset was made with a vocabulary of {}, the model has {}: prepare it with the "
        "model's own tokenizer",
        dataset.vocab_size(), config.vocab_size);
  }
  return absl::OkStatus();
}

Trainer::Trainer(const TrainOptions& options, Collaborators with)
    : options_(Validated(options, with)),
      model_(with.model),
      dataset_(with.dataset),
      sequence_(std::move(with.sequence)),
      communicator_(with.communicator),
      observer_(with.observer),
      micro_batches_per_rank_(options.global_batch_samples / options.micro_batch_samples /
                              with.communicator.world_size()),
      owned_(OwnedRanges(model_.layout(), communicator_)),
      decay_segments_(SegmentsOf(model_.layout(), owned_, options.learning_rate_ratios)),
      statistics_shape_(ShapeOf(model_.config(), options.micro_batch_samples)),
      expert_group_(ShareExperts(model_, communicator_, options.collective_timeout_ms)),
      exchange_(model_.layout(), communicator_, options.collective_timeout_ms,
                [this](int64_t layer) { model_.RefreshLayer(layer); }),
      average_(options.weight_average),
      mixture_(options.dynamic, HeldoutOptionsOf(options, options.dynamic.heldout_samples),
               {.model = model_,
                .dataset = dataset_,
                .sequence = sequence_,
                .communicator = communicator_,
                .source = with.decisions}),
      routing_watch_(options.watch),
      checkpoint_writer_(
          CheckpointOptionsOf(options, model_), model_.config(), model_.layout(), communicator_,
          {.on_written = [this](const auto& checkpoint) { observer_.OnCheckpoint(checkpoint); },
           .on_failed =
               [this](int64_t step, const absl::Status& status) {
                 observer_.OnCheckpointFailed(step, status);
               }}) {
  gradients_ = at::zeros({model_.layout().arena_numel()}, ArenaOptions());
}

at::TensorOptions Trainer::ArenaOptions() const {
  return at::TensorOptions().dtype(at::kFloat).device(model_.device());
}

void Trainer::Start(const at::Tensor& parameters) {
  MOE_CHECK(parameters.numel() == model_.layout().arena_numel());
  if (const std::string damage = DescribeNonFinite(model_.layout(), parameters); !damage.empty()) {
    throw std::invalid_argument(
        fmt::format("the model is damaged: {}; make or export it again", damage));
  }
  parameters_ = parameters.to(model_.device());
  exp_avg_ = at::zeros({TotalNumel(owned_)}, ArenaOptions());
  exp_avg_sq_ = at::zeros({TotalNumel(owned_)}, ArenaOptions());
  progress_ = {.world_size = communicator_.world_size(),
               .seed = options_.seed,
               .data_cursor = sequence_.cursor(),
               .dataset_manifest_crc32c = dataset_.manifest_crc32c()};
  average_.Start(OwnedParameters());
  model_.SetParameters(parameters_);
}

LoadedState Trainer::Load(const CheckpointPlace& place, const char* purpose) const {
  absl::StatusOr<LoadedState> loaded =
      LoadCheckpoint(place.path, place.manifest_crc32c, model_.layout(), owned_);
  if (loaded.ok()) return *std::move(loaded);
  const absl::Status status = Annotate(loaded.status(), purpose);
  if (absl::IsDataLoss(status) || absl::IsNotFound(status)) throw DamagedCheckpoint(status);
  throw CheckpointError(status);
}

void Trainer::Resume(const std::string& path, uint32_t manifest_crc32c) {
  LoadedState loaded = Load({path, manifest_crc32c}, "resuming");
  progress_ = loaded.progress;
  if (progress_.seed != options_.seed) {
    throw CheckpointError(
        InvalidArgument("{}: made with seed {}, the job has seed {}: the data order would change",
                        path, progress_.seed, options_.seed));
  }
  if (progress_.dataset_manifest_crc32c != dataset_.manifest_crc32c()) {
    throw CheckpointError(InvalidArgument(
        "{}: made on the dataset with manifest CRC-32C {}, the job's has {}: resume on the same "
        "dataset",
        path, progress_.dataset_manifest_crc32c, dataset_.manifest_crc32c()));
  }
  if (const absl::Status status = sequence_.Seek(progress_.data_cursor); !status.ok()) {
    throw CheckpointError(Annotate(status, path));
  }
  if (const int64_t version = mixture_.VersionAt(progress_.data_cursor.next_index - 1);
      progress_.sampler_version != version) {
    throw CheckpointError(InvalidArgument(
        "{}: its last step was drawn under decision {} on domain weights, the journal has {} there",
        path, progress_.sampler_version, version));
  }
  progress_.world_size = communicator_.world_size();
  parameters_ = loaded.parameters.to(model_.device());
  exp_avg_ = loaded.exp_avg.to(model_.device());
  exp_avg_sq_ = loaded.exp_avg_sq.to(model_.device());
  average_.Start(OwnedParameters(), OnDevice(loaded.average));
  resumed_from_ = CheckpointPlace{.path = path, .manifest_crc32c = manifest_crc32c};
  model_.SetParameters(parameters_);
}

TrainResult Trainer::Run() {
  MOE_CHECK(parameters_.defined());  // Start or Resume comes first
  StopReason stop = StopReason::kNone;
  while (progress_.step < options_.steps && stop == StopReason::kNone) {
    observer_.OnPhase(progress_.step, "held-out losses");
    stop = UpdateMixture();
    if (stop == StopReason::kNone) stop = RunStep();
    const bool due = progress_.step % options_.checkpoint_interval_steps == 0;
    const bool last = progress_.step == options_.steps;
    if (stop == StopReason::kDrain || (stop == StopReason::kNone && (due || last))) {
      observer_.OnPhase(progress_.step, "checkpoint");
      SaveCheckpoint();
    }
  }
  observer_.OnPhase(progress_.step, "checkpoint");
  exchange_.WaitForParameters();
  if (stop == StopReason::kNone) {
    stop = FinishLastCheckpoint();
  } else {
    checkpoint_writer_.Wait().IgnoreError();  // the observer knows
  }
  result_.exchange_seconds = exchange_.busy_seconds();
  result_.waited_seconds = exchange_.waited_seconds();
  result_.exchanged_bytes = exchange_.sent_bytes();
  result_.stopped = stop;
  result_.step = progress_.step;
  result_.tokens = progress_.tokens;
  return result_;
}

StopReason Trainer::UpdateMixture() {
  if (mixture_.IsDue(progress_.step)) exchange_.WaitForParameters();
  return mixture_.Update(progress_.step, progress_.tokens,
                         [this] { return observer_.stop_requested(); });
}

StopReason Trainer::RunStep() {
  const Clock::time_point start = Clock::now();
  const int64_t step = progress_.step + 1;
  const bool is_first_rank = communicator_.rank() == 0;
  communicator_.set_step(step);
  if (expert_group_ != nullptr) expert_group_->set_step(step);
  observer_.OnPhase(progress_.step, kComputes);
  CrashPoint("step_begin");

  const int64_t first_sample = sequence_.cursor().next_index;
  const GlobalBatch batch = DrawBatch(sequence_, dataset_, options_.global_batch_samples,
                                      options_.sequence_length, options_.attention);
  const std::vector<double> mine = ComputeGradients(batch, first_sample);
  CrashPoint("after_backward");

  observer_.OnPhase(progress_.step, kWaitsForRanks);
  // Every rank sees every rank's numbers, so all come to the same decisions without a further
  // message.
  const std::vector<double> all = AllGather(mine);
  StopReason stop = StopReason::kNone;
  std::vector<double> records;
  for (size_t begin = 0; begin < all.size(); begin += mine.size()) {
    stop = std::max(stop, static_cast<StopReason>(static_cast<int>(all[begin])));
    records.insert(records.end(), all.begin() + static_cast<ptrdiff_t>(begin) + 1,
                   all.begin() + static_cast<ptrdiff_t>(begin + mine.size()));
  }
  const StepStatistics statistics = CombineMicroBatches(statistics_shape_, records);
  double loss_sum = 0;
  for (const double sample_loss_sum : statistics.sample_loss_sums) loss_sum += sample_loss_sum;
  const double loss = loss_sum / static_cast<double>(batch.num_targets);

  // All ranks judge the same numbers, so all come to the same verdict.
  const double gradient_norm = GradientNorm();
  const Verdict verdict = JudgeStep(options_.watch, step, loss, statistics.balance_loss,
                                    gradient_norm, progress_.watch);
  const double learning_rate = options_.schedule.LearningRate(step);
  UpdateOr(verdict, learning_rate, gradient_norm);
  CrashPoint("after_optimizer");

  progress_.step = step;
  progress_.tokens += batch.num_tokens;
  progress_.data_cursor = sequence_.cursor();
  progress_.sampler_version = mixture_.VersionAt(first_sample);
  result_.last_loss = loss;
  const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
  const std::vector<double> heldout_losses = Validate(step);

  if (is_first_rank) {
    Warn(verdict, statistics.routing);
    const bool is_skipped =
        verdict.trouble != Trouble::kNone && verdict.action != WatchAction::kReport;
    const double step_tokens = static_cast<double>(batch.num_tokens);
    const double flops = planner::CountFlops(model_.config(), batch.MeanReach()).PerTrainedToken() *
                         step_tokens / seconds;
    const double waited = waited_seconds_ + exchange_.waited_seconds() + model_.exchange_seconds();
    const int64_t sent_bytes = communicator_.sent_bytes() + exchange_.sent_bytes() +
                               (expert_group_ != nullptr ? expert_group_->sent_bytes() : 0);
    const double peak_flops = options_.peak_flops_per_rank * communicator_.world_size();
    observer_.OnStep({.step = step,
                      .loss = loss,
                      .balance_loss = statistics.balance_loss,
                      .learning_rate = learning_rate,
                      .gradient_norm = gradient_norm,
                      .tokens = progress_.tokens,
                      .step_seconds = seconds,
                      .tokens_per_second = step_tokens / seconds,
                      .routing = statistics.routing,
                      .domains = DomainReports(batch, statistics.sample_loss_sums, heldout_losses),
                      .batch_crc32c = statistics.batch_crc32c,
                      .skipped = is_skipped ? TroubleName(verdict.trouble) : "",
                      .model_flops_per_second = flops,
                      .model_flops_utilisation = peak_flops > 0 ? flops / peak_flops : 0.0,
                      .sampler_version = progress_.sampler_version,
                      .target_tokens = batch.num_targets,
                      .sent_bytes = sent_bytes - std::exchange(reported_bytes_, sent_bytes),
                      .communication_seconds = waited - std::exchange(reported_seconds_, waited)});
  }
  CrashPoint("after_report");
  return stop;
}

std::vector<double> Trainer::ComputeGradients(const GlobalBatch& batch, int64_t first_sample) {
  const int64_t num_micro_batches = micro_batches_per_rank_ * communicator_.world_size();
  const model::LossScale scale = {.target = 1.0 / static_cast<double>(batch.num_targets),
                                  .balance = 1.0 / static_cast<double>(num_micro_batches)};
  const size_t record_numel = statistics_shape_.numel();
  std::vector<double> mine(1 + static_cast<size_t>(micro_batches_per_rank_) * record_numel);
  for (int64_t i = 0; i < micro_batches_per_rank_; ++i) {
    // Micro-batches go to ranks in contiguous blocks.
    const int64_t micro_batch = communicator_.rank() * micro_batches_per_rank_ + i;
    const int64_t first = micro_batch * options_.micro_batch_samples;
    const model::Batch samples = evaluation::ReadBatch(
        dataset_, sampler::Split::kTrain,
        std::span(batch.samples)
            .subspan(static_cast<size_t>(first), static_cast<size_t>(options_.micro_batch_samples)),
        options_.sequence_length, options_.attention);
    const auto say_waits = [this](bool waits) {
      observer_.OnPhase(progress_.step, waits ? kWaitsForRanks : kComputes);
    };
    model::PassHooks hooks = {.before_parameters =
                                  [&](int64_t layer) {
                                    if (!exchange_.IsUnderWay(layer)) return;
                                    say_waits(true);
                                    exchange_.WaitForParameters(layer);
                                    say_waits(false);
                                  },
                              .around_wait = say_waits};
    if (i + 1 == micro_batches_per_rank_) {
      hooks.after_gradients = [this](int64_t layer) {
        exchange_.GradientsComplete(
            gradients_, layer, communicator_.step(), [this](parallel::Range range) {
              ClearFrozen(model_.layout(), options_.learning_rate_ratios, range, gradients_);
            });
      };
    }
    const model::BatchResult result = model_.ForwardBackward(
        samples, {.seed = options_.seed, .first_sample = first_sample + first}, scale, gradients_,
        hooks);
    PackMicroBatch(
        statistics_shape_, result, samples.tokens,
        std::span(mine).subspan(1 + static_cast<size_t>(i) * record_numel, record_numel));
  }
  mine[0] = static_cast<double>(observer_.stop_requested());
  return mine;
}

at::Tensor Trainer::OnDevice(const at::Tensor& tensor) const {
  return tensor.defined() ? tensor.to(model_.device()) : tensor;
}

std::vector<at::Tensor> Trainer::OwnedParameters() const {
  std::vector<at::Tensor> views;
  for (const parallel::Range& range : owned_) {
    views.push_back(parameters_.narrow(0, range.begin, range.numel()));
  }
  return views;
}

std::vector<double> Trainer::Validate(int64_t step) {
  const int64_t interval = options_.validation.interval_steps;
  if (interval == 0 || (step % interval != 0 && step != options_.steps)) return {};
  exchange_.WaitForParameters();
  const std::vector<bool> all(dataset_.domains().size(), true);
  return MeasureHeldout(HeldoutOptionsOf(options_, options_.validation.heldout_samples), all,
                        dataset_, model_, communicator_);
}

std::vector<double> Trainer::AllGather(const std::vector<double>& mine) {
  const Clock::time_point start = Clock::now();
  std::vector<double> all(mine.size() * static_cast<size_t>(communicator_.world_size()));
  communicator_.AllGatherBytes(mine.data(), mine.size() * sizeof(double), all.data());
  waited_seconds_ += std::chrono::duration<double>(Clock::now() - start).count();
  return all;
}

double Trainer::GradientNorm() {
  exchange_.WaitForGradients();
  // Every element has one owner.
  double mine = 0;
  for (const parallel::Range& range : owned_) {
    const at::Tensor part = gradients_.narrow(0, range.begin, range.numel());
    mine += model_.kernels() == nullptr ? SumOfSquares(part.const_data_ptr<float>(), part.numel())
                                        : SumOfSquares(part, *model_.kernels());
  }
  double sum = 0;
  for (const double of_rank : AllGather({mine})) sum += of_rank;
  return std::sqrt(sum);
}

void Trainer::UpdateOr(const Verdict& verdict, double learning_rate, double gradient_norm) {
  if (verdict.trouble == Trouble::kNone || verdict.action == WatchAction::kReport) {
    return UpdateParameters(learning_rate, gradient_norm);
  }
  if (verdict.action == WatchAction::kStop) StopFor(verdict);
  gradients_.zero_();
  if (verdict.action == WatchAction::kRollback && Rollback()) {
    // What is judged from here on is another state.
    progress_.watch.recent_losses.clear();
  }
}

void Trainer::StopFor(const Verdict& verdict) {
  exchange_.WaitForParameters();
  std::string text = verdict.text;
  if (verdict.trouble == Trouble::kLossSpike) throw LossSpike(text);
  if (const std::string damage = DescribeNonFinite(model_.layout(), parameters_.cpu());
      !damage.empty()) {
    text += fmt::format("; among the parameters {}", damage);
  }
  throw NonFiniteLoss(text);
}

bool Trainer::Rollback() {
  const std::optional<CheckpointPlace> written = checkpoint_writer_.WaitForNewest();
  const std::optional<CheckpointPlace>& place = written.has_value() ? written : resumed_from_;
  if (!place.has_value()) {
    if (communicator_.rank() == 0) {
      observer_.OnWarning(progress_.step + 1, "rollback",
                          "there is no checkpoint to go back to yet: the update was left out");
    }
    return false;
  }
  const LoadedState loaded = Load(*place, "rolling back");
  exchange_.WaitForParameters();
  parameters_.copy_(loaded.parameters);
  exp_avg_.copy_(loaded.exp_avg);
  exp_avg_sq_.copy_(loaded.exp_avg_sq);
  average_.Start(OwnedParameters(), OnDevice(loaded.average));
  model_.SetParameters(parameters_);
  if (communicator_.rank() == 0) {
    observer_.OnWarning(
        progress_.step + 1, "rollback",
        fmt::format("weights and optimizer state are those of step {} again; the data goes on",
                    loaded.progress.step));
  }
  return true;
}

void Trainer::Warn(const Verdict& verdict, const std::vector<model::LayerRouting>& routing) {
  if (verdict.trouble != Trouble::kNone) {
    observer_.OnWarning(progress_.step, TroubleName(verdict.trouble), verdict.text);
  }
  for (const RoutingWatch::Warning& warning :
       routing_watch_.Observe(routing, model_.config().moe.top_k)) {
    observer_.OnWarning(progress_.step, warning.kind, warning.text);
  }
}

void Trainer::UpdateParameters(double learning_rate, double gradient_norm) {
  const double scale = ClipScale(gradient_norm, options_.clip_norm);
  int64_t cleared = 0;  // the update clears what it has used
  int64_t first = 0;    // of the range in the moments
  for (size_t i = 0; i < owned_.size(); ++i) {
    const parallel::Range& range = owned_[i];
    const auto part = [numel = range.numel()](const at::Tensor& arena, int64_t begin) {
      return arena.narrow(0, begin, numel);
    };
    UpdateRange(decay_segments_[i], learning_rate, scale, part(parameters_, range.begin),
                part(gradients_, range.begin), part(exp_avg_, first), part(exp_avg_sq_, first));
    first += range.numel();
    gradients_.narrow(0, cleared, range.begin - cleared).zero_();
    cleared = range.end;
  }
  gradients_.narrow(0, cleared, gradients_.numel() - cleared).zero_();
  average_.Update(progress_.step + 1, OwnedParameters());
  exchange_.SendParameters(parameters_, progress_.step + 1);
}

void Trainer::UpdateRange(const std::vector<DecaySegment>& segments, double learning_rate,
                          double gradient_scale, const at::Tensor& parameters,
                          const at::Tensor& gradients, const at::Tensor& exp_avg,
                          const at::Tensor& exp_avg_sq) {
  const int64_t step = progress_.step + 1;
  if (model_.kernels() != nullptr) {
    AdamWStep(options_.adamw, segments, step, learning_rate, gradient_scale, parameters, gradients,
              exp_avg, exp_avg_sq, *model_.kernels());
  } else {
    AdamWStep(options_.adamw, segments, step, learning_rate, gradient_scale,
              parameters.mutable_data_ptr<float>(), gradients.mutable_data_ptr<float>(),
              exp_avg.mutable_data_ptr<float>(), exp_avg_sq.mutable_data_ptr<float>());
  }
}

std::vector<StepReport::Domain> Trainer::DomainReports(
    const GlobalBatch& batch, const std::vector<double>& sample_loss_sums,
    const std::vector<double>& heldout_losses) const {
  const std::vector<sampler::DatasetDomain>& domains = dataset_.domains();
  std::vector<double> loss_sums(domains.size());
  std::vector<int64_t> targets(domains.size());
  for (size_t i = 0; i < batch.samples.size(); ++i) {
    const size_t domain = static_cast<size_t>(batch.samples[i].domain);
    loss_sums[domain] += sample_loss_sums[i];
    targets[domain] += batch.targets[i];
  }
  const std::vector<double>& weights = sequence_.WeightsAt(progress_.data_cursor.next_index - 1);
  const std::vector<double> epochs = sequence_.Epochs();
  std::vector<StepReport::Domain> reports;
  for (size_t i = 0; i < domains.size(); ++i) {
    StepReport::Domain report = {.name = domains[i].name,
                                 .samples = progress_.data_cursor.domain_samples[i],
                                 .loss = std::nullopt,
                                 .weight = weights[i],
                                 .epochs = epochs[i]};
    if (targets[i] > 0) report.loss = loss_sums[i] / static_cast<double>(targets[i]);
    if (!heldout_losses.empty() && std::isfinite(heldout_losses[i])) {
      report.heldout_loss = heldout_losses[i];
    }
    reports.push_back(std::move(report));
  }
  return reports;
}

void Trainer::SaveCheckpoint() {
  if (result_.checkpoint == checkpoint_writer_.Path(progress_.step)) return;  // is there
  checkpoint_writer_.Save(progress_, parameters_, exp_avg_, exp_avg_sq_, average_.values());
  result_.checkpoint = checkpoint_writer_.Path(progress_.step);
}

StopReason Trainer::FinishLastCheckpoint() {
  if (result_.checkpoint.empty()) return StopReason::kNone;  // resumed after the last step
  const absl::Status written = checkpoint_writer_.Wait();
  if (!written.ok()) throw CheckpointError(written);
  if (communicator_.rank() != 0) return StopReason::kNone;
  const absl::Status committed = observer_.WaitForCommit(result_.checkpoint);
  if (committed.ok()) return StopReason::kNone;
  if (observer_.stop_requested() != StopReason::kNone) return observer_.stop_requested();
  throw CheckpointError(
      Annotate(committed, fmt::format("committing checkpoint {}", result_.checkpoint)));
}

}  // namespace moe::training
