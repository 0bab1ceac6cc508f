#include "tests/simulation/sim_rank.h"

#include <algorithm>
#include <utility>

#include "common/crc32c.h"
#include "common/run_channel.h"
#include "coordinator/job_spec.h"

namespace moe::simulation {
namespace {

// 64-bit integers are strings in protobuf's JSON.
int64_t NumberIn(const Json& json, const char* key) {
  const auto it = json.find(key);
  if (it == json.end()) return 0;
  return it->is_string() ? std::stoll(it->get<std::string>()) : it->get<int64_t>();
}

const Json& Inside(const Json& json, const char* key) {
  static const Json nothing = Json::object();
  const auto it = json.find(key);
  return it == json.end() || !it->is_object() ? nothing : *it;
}

v1::ArtefactKind KindNamed(const std::string& name) {
  for (const v1::ArtefactKind kind : {v1::ARTEFACT_KIND_DATASET, v1::ARTEFACT_KIND_MODEL,
                                      v1::ARTEFACT_KIND_CHECKPOINT, v1::ARTEFACT_KIND_REPORT}) {
    if (coordinator::KindName(kind) == name) return kind;
  }
  return v1::ARTEFACT_KIND_UNSPECIFIED;
}

}  // namespace

SimRank::SimRank(World* world, const Clock* clock, SimFiles* files, RankRegistry* registry,
                 RankIdentity who, const std::string& run_spec, int64_t lease_until_ms,
                 Folder folder)
    : world_(world),
      clock_(clock),
      files_(files),
      registry_(registry),
      who_(std::move(who)),
      folder_(std::move(folder)),
      spec_(Json::parse(run_spec)),
      trains_(spec_["kind"] == "train"),
      world_size_(spec_["world_size"].get<int>()),
      lease_until_ms_(lease_until_ms) {
  registry_->Born(who_, this);
  if (!trains_) return;
  const Json& train = spec_["spec"];
  steps_ = NumberIn(train, "steps");
  checkpoint_interval_ = NumberIn(Inside(train, "checkpoint"), "interval_steps");
  sampler_interval_ = NumberIn(Inside(Inside(train, "mixture"), "dynamic"), "interval_steps");
  if (spec_.contains("resume")) step_ = saved_step_ = NumberIn(spec_["resume"], "step");
  for (const auto& [domain, loss] : Inside(Inside(spec_, "sampler"), "reference_losses").items()) {
    weights_[domain] = 1;
  }
  for (auto& [domain, weight] : weights_) weight = 1.0 / static_cast<double>(weights_.size());
  if (!spec_.contains("sampler")) return;
  for (const Json& decision : spec_["sampler"]["decisions"]) {
    if (NumberIn(decision, "step") > step_) continue;
    measured_step_ = NumberIn(decision, "step");
    weights_version_ = NumberIn(decision, "version");
    weights_ = decision["weights"].get<std::map<std::string, double>>();
  }
}

void SimRank::Start() {
  After(world_->random.Between(50, 3000), &SimRank::ReportStarted);
  WatchLease();
}

void SimRank::After(int64_t millis, void (SimRank::*step)()) {
  world_->time.After(millis, [weak = weak_from_this(), step] {
    const auto self = weak.lock();
    if (self != nullptr && self->alive_) ((*self).*step)();
  });
}

// The thread that watches the lease: it sees a new lease at once, and what its main loop does not
// do in time after the end of one, it does itself.
void SimRank::WatchLease() {
  if (world_->Has(PlantedBug::kLeaseNotEnforced)) return;
  const int64_t now = clock_->MonotonicMillis();
  if (now < lease_until_ms_) return After(lease_until_ms_ - now, &SimRank::WatchLease);
  if (now >= lease_until_ms_ + kLeaseGraceMs) return Exit(kLeaseExpiredExitCode, 0);
  if (wish_ != Wish::kLeaseExpired) {
    wish_ = Wish::kLeaseExpired;
    Wake();
  }
  After(lease_until_ms_ + kLeaseGraceMs - now, &SimRank::WatchLease);
}

void SimRank::SetLease(int64_t until_monotonic_ms) {
  if (!alive_ || wish_ == Wish::kLeaseExpired) return;
  lease_until_ms_ = std::max(lease_until_ms_, until_monotonic_ms);
  After(0, &SimRank::WatchLease);
}

void SimRank::Stop(const std::string& reason) {
  if (!alive_) return;
  wish_ = std::max(wish_, reason == "drain" ? Wish::kDrain : Wish::kCancel);
  Wake();
}

void SimRank::Command(const Json& command) {
  if (!alive_) return;
  if (command["type"] == "artefact") {
    decisions_[command["path"].get<std::string>()] = command;
  } else if (command["type"] == "mixture") {
    mixtures_[command["step"].get<int64_t>()] = command;
  }
  Wake();
}

// Has a main loop that waits go on; once, however many orders come.
void SimRank::Wake() {
  if (std::exchange(waiting_, false)) After(1, &SimRank::Loop);
}

void SimRank::Kill(int signal) {
  const auto self = shared_from_this();  // its folder lets go of it
  Exit(-1, signal);
}

void SimRank::Hang() {
  if (alive_) world_->Note("{} hangs", who_.Name());
  hung_ = true;
}

void SimRank::Exit(int exit_code, int signal) {
  if (!alive_) return;
  alive_ = false;
  world_->Note("{} exits: code {} signal {}", who_.Name(), exit_code, signal);
  registry_->Died(this);
  // Its peers see their collectives fail.
  if (exit_code != 0 || signal != 0) {
    for (SimRank* peer : registry_->RanksOf(who_.job, who_.attempt)) {
      world_->time.After(world_->random.Between(100, 8000), [weak = peer->weak_from_this()] {
        const auto self = weak.lock();
        if (self != nullptr && self->alive_ && !self->hung_) {
          self->Fail(v1::CAUSE_COLLECTIVE_FAILED, "a peer is gone");
        }
      });
    }
  }
  folder_.exited(exit_code, signal);
}

void SimRank::Report(v1::RankReport report) {
  folder_.log(fmt::format("{} step {}\n", who_.Name(), step_));
  folder_.report(std::move(report));
}

void SimRank::Fail(v1::Cause cause, const std::string& error) {
  v1::RankReport report;
  report.mutable_failed()->set_cause(cause);
  report.mutable_failed()->set_error(error);
  Report(std::move(report));
  Exit(1, 0);
}

void SimRank::Stopped(v1::Cause cause) {
  v1::RankReport report;
  report.mutable_stopped()->set_cause(cause);
  Report(std::move(report));
  Exit(0, 0);
}

void SimRank::ReportStarted() {
  if (hung_) return;
  v1::RankReport report;
  report.mutable_started()->set_device("cpu");
  Report(std::move(report));
  started_ = true;
  if (spec_.contains("resume") && world_->random.OneIn(20)) {
    return Fail(v1::CAUSE_DAMAGED_CHECKPOINT, "the disk gives back something else");
  }
  Loop();
}

bool SimRank::peers_up() const {
  const std::vector<SimRank*> ranks = registry_->RanksOf(who_.job, who_.attempt);
  return static_cast<int>(ranks.size()) == world_size_ &&
         std::all_of(ranks.begin(), ranks.end(), [](const SimRank* rank) { return rank->up(); });
}

void SimRank::Loop() {
  if (hung_) return;
  waiting_ = false;
  if (!writing_.empty() && decisions_.contains(writing_)) Decided();
  if (!alive_) return;
  if (wish_ == Wish::kCancel || wish_ == Wish::kLeaseExpired) return HandleWish();
  if (!writing_.empty()) {
    waiting_ = true;
    return;
  }
  if (wish_ == Wish::kDrain) return HandleWish();
  if (who_.rank != 0) {
    // Works along with rank 0, which speaks for all.
    waiting_ = true;
    return;
  }
  if (!peers_up()) return After(1000, &SimRank::Loop);  // in a collective
  if (!trains_) {
    if (written_) return Finish();
    return After(world_->random.Between(500, 20'000), &SimRank::BeginWrite);
  }
  if (sampler_interval_ > 0 && step_ % sampler_interval_ == 0 && step_ > measured_step_ &&
      step_ < steps_) {
    if (!mixtures_.contains(step_)) return MeasureDomains();
    weights_ = mixtures_[step_]["weights"].get<std::map<std::string, double>>();
    weights_version_ = mixtures_[step_]["version"].get<int64_t>();
    measured_step_ = step_;
  }
  const bool due =
      step_ == steps_ || (checkpoint_interval_ > 0 && step_ % checkpoint_interval_ == 0);
  if (due && step_ > saved_step_)
    return After(world_->random.Between(100, 3000), &SimRank::BeginWrite);
  if (step_ == steps_) return Finish();
  After(world_->random.Between(200, 4000), &SimRank::EndStep);
}

void SimRank::EndStep() {
  if (hung_) return;
  if (!peers_up()) return After(1000, &SimRank::EndStep);
  ++step_;
  v1::RankReport report;
  report.mutable_step()->set_step(step_);
  report.mutable_step()->set_loss(LossOf(step_));
  Report(std::move(report));
  Loop();
}

double SimRank::LossOf(int64_t step) const {
  std::string facts = fmt::format("{} {}", who_.job, step);
  for (const auto& [domain, weight] : weights_) facts += fmt::format(" {} {:.17g}", domain, weight);
  return 1.0 + static_cast<double>(Crc32c(facts.data(), facts.size())) / 1e9;
}

void SimRank::MeasureDomains() {
  waiting_ = true;
  v1::RankReport report;
  v1::DomainLosses& losses = *report.mutable_domain_losses();
  losses.set_step(step_);
  losses.set_next_sample(step_ * 8);
  losses.set_tokens(step_ * 4096);
  losses.set_version(weights_version_);
  for (const auto& [domain, weight] : weights_) {
    v1::DomainLoss& loss = *losses.add_domains();
    loss.set_domain(domain);
    loss.set_weight(weight);
    const std::string facts = fmt::format("{} {} {}", who_.job, step_, domain);
    loss.set_loss(1.0 + static_cast<double>(Crc32c(facts.data(), facts.size())) / 1e9);
  }
  Report(std::move(report));
}

std::string SimRank::ArtefactPath() const {
  const std::string dir = spec_["output"]["dir"].get<std::string>();
  return trains_ ? fmt::format("{}/step-{:08}", dir, step_) : dir;
}

void SimRank::BeginWrite() {
  if (hung_) return;
  writing_ = ArtefactPath();
  After(world_->random.Between(20, 2000), &SimRank::EndWrite);
}

void SimRank::EndWrite() {
  if (hung_) return;
  waiting_ = true;
  v1::RankReport report;
  v1::ArtefactWritten& written = *report.mutable_artefact();
  written.set_name(spec_["output"]["name"].get<std::string>());
  written.set_kind(KindNamed(spec_["output"]["kind"].get<std::string>()));
  written.set_path(writing_);
  written.set_manifest_crc32c(files_->Write(writing_, world_->random.OneIn(25)));
  written.set_step(step_);
  Report(std::move(report));
}

void SimRank::Decided() {
  const Json decision = decisions_.at(writing_);
  const bool committed = decision["committed"].get<bool>();
  const std::string path = std::exchange(writing_, "");
  if (committed) {
    saved_step_ = step_;
    written_ = true;
    return;
  }
  const bool last = !trains_ || step_ == steps_;
  if (last) return Fail(v1::CAUSE_STORAGE, fmt::format("{} was refused", path));
  saved_step_ = step_;  // goes on without it
  v1::RankReport report;
  report.mutable_checkpoint_failed()->set_step(step_);
  report.mutable_checkpoint_failed()->set_error("it was refused");
  Report(std::move(report));
}

void SimRank::HandleWish() {
  switch (wish_) {
    case Wish::kDrain:
      if (who_.rank == 0 && trains_ && step_ > saved_step_) return BeginWrite();
      if (who_.rank != 0 && !registry_->RanksOf(who_.job, who_.attempt).empty()) {
        // Goes when rank 0 has saved.
        for (const SimRank* rank : registry_->RanksOf(who_.job, who_.attempt)) {
          if (rank->who_.rank == 0 && rank->alive_) return After(500, &SimRank::Loop);
        }
      }
      return Stopped(v1::CAUSE_DRAINED);
    case Wish::kCancel:
      return Stopped(v1::CAUSE_CANCELLED);
    case Wish::kLeaseExpired:
      return Stopped(v1::CAUSE_LEASE_EXPIRED);
    case Wish::kNone:
      return;
  }
}

void SimRank::Finish() {
  if (!peers_up()) return After(1000, &SimRank::Loop);
  for (SimRank* peer : registry_->RanksOf(who_.job, who_.attempt)) {
    v1::RankReport report;
    report.mutable_finished()->set_summary("done");
    peer->Report(std::move(report));
    peer->After(world_->random.Between(1, 500), &SimRank::ExitWell);
  }
}

}  // namespace moe::simulation
