#include "coordinator/sampler/domain_sampler.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/status.h"
#include "coordinator/job_state.h"
#include "coordinator/timestamp.h"

namespace moe::coordinator {
namespace {

const v1::DynamicMixture& SpecOf(const v1::JobRecord& record) {
  return record.job().spec().train().mixture().dynamic();
}

absl::Status CheckSteerable(const v1::JobRecord& record) {
  const v1::Job& job = record.job();
  if (!IsEnded(job.state())) return absl::OkStatus();
  return FailedPrecondition("job {} ('{}') has ended as {}; its weights cannot change any more",
                            job.job_id(), job.spec().name(), StateName(job.state()));
}

// "commoncrawl 0.6687, c4 0.1506".
std::string SummaryOf(const v1::SamplerDecision& decision) {
  std::string text;
  for (const v1::DecidedDomain& domain : decision.domains()) {
    text +=
        fmt::format("{}{} {:.4f}", text.empty() ? "" : ", ", domain.domain(), domain.new_weight());
  }
  return text;
}

// Losses that were measured again after a resume and differ: the run did not repeat itself.
void WarnOfOtherLosses(const v1::JobRecord& record, const v1::SamplerDecision& decision,
                       const v1::DomainLosses& measured) {
  for (int i = 0; i < std::min(decision.domains_size(), measured.domains_size()); ++i) {
    if (decision.domains(i).loss() == measured.domains(i).loss()) continue;
    spdlog::warn(
        "job={} step={} domain={} loss={:.17g} differs from loss={:.17g} of attempt {}; decision "
        "{} "
        "stays",
        record.job().job_id(), measured.step(), measured.domains(i).domain(),
        measured.domains(i).loss(), decision.domains(i).loss(), decision.attempt(),
        decision.version());
  }
}

}  // namespace

absl::Status DomainSampler::Load() {
  return store_->ForEachDecision([this](uint64_t job, v1::SamplerDecision decision) {
    journals_[job].push_back(std::move(decision));
  });
}

const Journal& DomainSampler::JournalOf(uint64_t job) const {
  static const Journal empty;
  const auto it = journals_.find(job);
  return it == journals_.end() ? empty : it->second;
}

absl::Status DomainSampler::Settle(v1::JobRecord& record,
                                   const std::map<std::string, ResolvedInput>& inputs) {
  const v1::Mixture& mixture = record.job().spec().train().mixture();
  if (!mixture.has_dynamic() || !record.sampler().reference_losses().empty()) {
    return absl::OkStatus();
  }
  auto& losses = *record.mutable_sampler()->mutable_reference_losses();
  losses = mixture.dynamic().reference_losses();
  if (!mixture.dynamic().has_reference()) return absl::OkStatus();
  const v1::Artefact& report = *inputs.at("mixture.dynamic.reference").artefact;
  const auto found = ReferenceLosses(report.metadata(), mixture.dynamic().reference_label());
  if (!found.ok()) {
    return Annotate(found.status(), "mixture.dynamic.reference=" + ArtefactReference(report));
  }
  losses.insert(found->begin(), found->end());
  return absl::OkStatus();
}

absl::Status DomainSampler::TakeOver(Turn& turn, v1::JobRecord& record,
                                     const v1::Artefact& checkpoint) {
  Journal taken = JournalOf(*ParseJobId(checkpoint.job_id()));
  std::erase_if(taken, [&](const v1::SamplerDecision& decision) {
    return decision.step() > checkpoint.step();  // made after the checkpoint: another future
  });
  const v1::Job& job = record.job();
  if (!job.spec().train().mixture().has_dynamic()) {
    if (taken.empty()) return absl::OkStatus();
    return FailedPrecondition(
        "{} was made under {} decisions on domain weights, and the job has no mixture.dynamic; "
        "give "
        "it one (moectl sampler pin keeps weights as they are)",
        ArtefactReference(checkpoint), taken.size());
  }
  if (const v1::JobRecord* maker = jobs_->Find(checkpoint.job_id()); maker != nullptr) {
    *record.mutable_sampler()->mutable_pinned_weights() = maker->sampler().pinned_weights();
    record.mutable_sampler()->set_user(maker->sampler().user());
  }
  const uint64_t number = *ParseJobId(job.job_id());
  for (const v1::SamplerDecision& decision : taken) turn.batch.PutDecision(number, decision);
  journals_[number] = std::move(taken);
  return absl::OkStatus();
}

absl::StatusOr<v1::SamplerDecision> DomainSampler::Decide(Turn& turn, v1::JobRecord& record,
                                                          int32_t attempt,
                                                          const v1::DomainLosses& measured) {
  const uint64_t job = *ParseJobId(record.job().job_id());
  Journal& journal = journals_[job];
  const auto known = std::find_if(
      journal.begin(), journal.end(),
      [&](const v1::SamplerDecision& decision) { return decision.step() == measured.step(); });
  if (known != journal.end()) {
    WarnOfOtherLosses(record, *known, measured);
    return *known;
  }
  MOE_ASSIGN_OR_RETURN(v1::SamplerDecision decision,
                       coordinator::Decide(SpecOf(record), record.sampler(), journal, measured));
  decision.set_attempt(attempt);
  *decision.mutable_time() = ToTimestamp(turn.unix_millis);
  turn.batch.PutDecision(job, decision);
  record.mutable_sampler()->clear_rollback_version();
  journal.push_back(decision);
  jobs_->Note(turn, record, v1::CAUSE_UNSPECIFIED,
              fmt::format("domain weights {} from step {}: {}", decision.version(),
                          decision.apply_step(), SummaryOf(decision)));
  return decision;
}

absl::Status DomainSampler::Pin(Turn& turn, v1::JobRecord& record, const std::string& user,
                                const std::map<std::string, double>& weights) {
  MOE_RETURN_IF_ERROR(CheckSteerable(record));
  const Journal& journal = JournalOf(*ParseJobId(record.job().job_id()));
  if (journal.empty()) {
    return FailedPrecondition(
        "job {} has no decision yet, so its domains are not known; pin after step {}",
        record.job().job_id(), SpecOf(record).interval_steps());
  }
  std::vector<std::string> names;
  std::map<std::string, double> pinned;
  for (const v1::DecidedDomain& domain : journal.back().domains()) {
    names.push_back(domain.domain());
    pinned[domain.domain()] = domain.new_weight();
  }
  if (!weights.empty()) {
    double sum = 0;
    for (const auto& [domain, weight] : weights) {
      if (!pinned.contains(domain)) {
        return InvalidArgument("the mixture has no domain {}; it has {}", domain,
                               fmt::join(names, ", "));
      }
      if (!(weight > 0) || !std::isfinite(weight)) {
        return InvalidArgument("the weight of domain {} is {}; it must be finite and above 0",
                               domain, weight);
      }
      sum += weight;
    }
    for (const std::string& name : names) {
      if (!weights.contains(name)) {
        return InvalidArgument("there is no weight for domain {}; pin all of {}", name,
                               fmt::join(names, ", "));
      }
      pinned[name] = weights.at(name) / sum;
    }
    if (!std::isfinite(sum)) return InvalidArgument("the sum of the weights overflows");
  }
  v1::SamplerState& state = *record.mutable_sampler();
  state.mutable_pinned_weights()->clear();
  state.mutable_pinned_weights()->insert(pinned.begin(), pinned.end());
  state.clear_rollback_version();
  state.set_user(user);
  jobs_->Note(turn, record, v1::CAUSE_UNSPECIFIED,
              fmt::format("domain weights pinned by {} from the next decision on", user));
  return absl::OkStatus();
}

absl::Status DomainSampler::Unpin(Turn& turn, v1::JobRecord& record) {
  if (record.sampler().pinned_weights().empty()) return absl::OkStatus();
  record.mutable_sampler()->clear_pinned_weights();
  record.mutable_sampler()->clear_user();
  jobs_->Note(turn, record, v1::CAUSE_UNSPECIFIED, "domain weights unpinned");
  return absl::OkStatus();
}

absl::Status DomainSampler::RollBack(Turn& turn, v1::JobRecord& record, const std::string& user,
                                     int64_t version) {
  MOE_RETURN_IF_ERROR(CheckSteerable(record));
  const Journal& journal = JournalOf(*ParseJobId(record.job().job_id()));
  if (journal.empty() || version < 0 || version > journal.back().version()) {
    return NotFound(
        "job {} has no decision {}; it has {}", record.job().job_id(), version,
        journal.empty() ? "none yet" : fmt::format("0 to {}", journal.back().version()));
  }
  if (!record.sampler().pinned_weights().empty()) {
    return FailedPrecondition("the weights of job {} are pinned; unpin them first",
                              record.job().job_id());
  }
  record.mutable_sampler()->set_rollback_version(version);
  record.mutable_sampler()->set_user(user);
  jobs_->Note(turn, record, v1::CAUSE_UNSPECIFIED,
              fmt::format("{} asked to go back to domain weights {}", user, version));
  return absl::OkStatus();
}

}  // namespace moe::coordinator
