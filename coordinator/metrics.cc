#include "coordinator/metrics.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "coordinator/job_spec.h"
#include "coordinator/job_state.h"
#include "coordinator/timestamp.h"
#include "coordinator/transport_watch.h"
#include "coordinator/version.h"

namespace moe::coordinator {
namespace {

using prometheus::Histogram;

const std::vector<double> kCommitBuckets = {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005,
                                            0.01,   0.025,   0.05,   0.1,   0.25,   1};
const std::vector<double> kScheduleBuckets = {0.00001, 0.0001, 0.001, 0.01, 0.1, 1};
const std::vector<double> kWaitBuckets = {0.005, 0.01, 0.02, 0.05, 0.1,  0.5,  1,
                                          5,     30,   60,   300,  1800, 3600, 14400};
const std::vector<double> kStepBuckets = {0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120};
const std::vector<double> kCheckpointBuckets = {0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300};

Histogram::BucketBoundaries Buckets(const std::vector<double>& bounds) {
  return Histogram::BucketBoundaries(bounds.begin(), bounds.end());
}

std::string LowerCase(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

std::string SeriesKey(const std::string& family, const std::map<std::string, std::string>& labels) {
  std::string key = family;
  for (const auto& [name, value] : labels) key += '\0' + name + '\0' + value;
  return key;
}

}  // namespace

CoordinatorMetrics::CoordinatorMetrics(Options options)
    : options_(options),
      build_info_(list_.Gauge("moe_build_info", "1, with the version as a label.")),
      jobs_(list_.Gauge("moe_coordinator_jobs", "Jobs by kind and state.")),
      transitions_(list_.Counter("moe_coordinator_job_transitions_total",
                                 "Changes of job state, by kind and new state.")),
      workers_(list_.Gauge("moe_coordinator_workers", "Workers by state.")),
      schedule_seconds_(list_
                            .Histogram("moe_coordinator_schedule_duration_seconds",
                                       "Time of one scheduling pass.")
                            .Add({}, Buckets(kScheduleBuckets))),
      queue_wait_seconds_(
          list_
              .Histogram("moe_coordinator_queue_wait_seconds",
                         "Time from submission, or from the end of a back-off, to placement.")
              .Add({}, Buckets(kWaitBuckets))),
      commit_seconds_(list_
                          .Histogram("moe_coordinator_commit_duration_seconds",
                                     "Time of one synced write to the store.")
                          .Add({}, Buckets(kCommitBuckets))),
      stale_messages_(list_
                          .Counter("moe_coordinator_stale_messages_total",
                                   "Messages of attempts that are over, which were ignored.")
                          .Add({})),
      rpc_requests_(list_.Counter("moe_rpc_requests_total", "RPCs by method and status code.")),
      admitted_(list_.Counter("moe_rpc_admitted_total",
                              "RPCs that certificate, token and role allow, by method. Those that "
                              "never come to moe_rpc_requests_total were above 32 MiB, or have not "
                              "come yet.")),
      handshake_failures_(list_.Counter(
          "moe_rpc_handshake_failures_total",
          "Connections that ended before their first call, by reason: no_certificate, "
          "bad_certificate, timeout, refused_by_peer, not_tls, gone.")),
      loss_(list_.Gauge("moe_train_loss", "Next-token cross-entropy of the newest step, in nats.")),
      balance_loss_(list_.Gauge("moe_train_balance_loss", "Weighted balance loss, newest step.")),
      learning_rate_(list_.Gauge("moe_train_learning_rate", "Learning rate of the newest step.")),
      grad_norm_(list_.Gauge("moe_train_grad_norm", "Global gradient norm before clipping.")),
      tokens_per_second_(
          list_.Gauge("moe_train_tokens_per_second", "Tokens per second of the newest step.")),
      last_step_time_(list_.Gauge("moe_train_last_step_timestamp_seconds",
                                  "When the newest step was reported, since the epoch.")),
      tokens_(list_.Counter("moe_train_tokens_total", "Tokens trained on, repeats included.")),
      model_flops_(list_.Gauge("moe_train_model_flops_per_second",
                               "Floating-point operations per second on active parameters and "
                               "causal attention, newest step.")),
      model_flops_ratio_(list_.Gauge("moe_train_model_flops_utilisation_ratio",
                                     "The same as a share of what the ranks' matrix products "
                                     "reach.")),
      warnings_(list_.Counter("moe_train_warnings_total",
                              "Warnings of runs that go on, by kind: non_finite, loss_spike, "
                              "rollback, dead_experts, router_collapse.")),
      steps_(list_.Counter("moe_train_steps_total", "Steps done, repeats included.")),
      step_seconds_(list_.Histogram("moe_train_step_duration_seconds", "Time of one step.")),
      replay_mismatches_(list_.Counter(
          "moe_train_replay_mismatches_total",
          "Steps that gave another loss when they were computed again after a resume.")),
      router_load_(list_.Gauge("moe_router_load_ratio",
                               "Share of a layer's tokens that an expert got, times the number of "
                               "experts: 1 is balanced.")),
      router_cv_(list_.Gauge("moe_router_load_cv_ratio",
                             "Standard deviation of the experts' loads over their mean.")),
      router_dropped_(list_.Gauge("moe_router_dropped_ratio",
                                  "Share of a layer's tokens that their expert had no room for.")),
      domain_samples_(list_.Counter("moe_sampler_domain_samples_total",
                                    "Samples drawn from a domain, repeats included.")),
      domain_weight_(list_.Gauge("moe_sampler_domain_weight_ratio",
                                 "Share of a domain in all samples drawn since the start.")),
      target_weight_(list_.Gauge("moe_sampler_target_weight_ratio",
                                 "Share of a domain that the newest step was drawn with.")),
      domain_epochs_(list_.Gauge("moe_sampler_domain_epochs",
                                 "How often a domain has been gone through since the start.")),
      heldout_loss_(list_.Gauge("moe_sampler_heldout_loss",
                                "Loss on held-out text of the newest decision, in nats.")),
      validation_loss_(list_.Gauge("moe_train_heldout_loss",
                                   "Loss on held-out text of the newest validation, in nats.")),
      reference_loss_(list_.Gauge("moe_sampler_reference_loss",
                                  "Loss that the sampler wants a domain to reach, in nats.")),
      sampler_version_(list_.Gauge("moe_sampler_decision_version",
                                   "Number of the newest decision on domain weights.")),
      evaluation_loss_(list_.Gauge("moe_evaluation_loss",
                                   "Loss on held-out text, by model and domain, in nats.")),
      checkpoint_saves_(list_.Counter("moe_checkpoint_saves_total", "Committed checkpoints.")),
      checkpoint_failures_(list_.Counter("moe_checkpoint_save_failures_total",
                                         "Checkpoints that could not be written or committed.")),
      checkpoint_seconds_(list_.Histogram("moe_checkpoint_save_duration_seconds",
                                          "Time from the snapshot to the synced files.")),
      checkpoint_time_(list_.Gauge("moe_checkpoint_last_success_timestamp_seconds",
                                   "When a checkpoint was last committed, since the epoch.")),
      checkpoint_bytes_(
          list_.Gauge("moe_checkpoint_size_bytes", "Size of the newest checkpoint.")) {
  build_info_.Add({{"version", kVersion}}).Set(1);
  for (const std::string& reason : HandshakeFailureReasons()) {
    handshake_failures_.Add({{"reason", reason}});
  }
}

void CoordinatorMetrics::OnCommit(double seconds) { commit_seconds_.Observe(seconds); }
void CoordinatorMetrics::OnSchedulePass(double seconds) { schedule_seconds_.Observe(seconds); }
void CoordinatorMetrics::OnStaleMessage() { stale_messages_.Increment(); }
void CoordinatorMetrics::OnPlaced(const v1::Job&, double queue_wait_seconds) {
  queue_wait_seconds_.Observe(std::max(0.0, queue_wait_seconds));
}

void CoordinatorMetrics::OnRpc(const std::string& method, const std::string& code) {
  rpc_requests_.Add({{"method", method}, {"code", code}}).Increment();
}

void CoordinatorMetrics::OnAdmitted(const std::string& method) {
  admitted_.Add({{"method", method}}).Increment();
}

void CoordinatorMetrics::OnHandshakeFailure(const std::string& reason) {
  handshake_failures_.Add({{"reason", reason}}).Increment();
}

void CoordinatorMetrics::SetWorkers(const std::map<std::string, int>& count_by_state) {
  for (const auto& [state, count] : count_by_state) workers_.Add({{"state", state}}).Set(count);
}

void CoordinatorMetrics::OnJobState(int64_t monotonic_millis, const v1::Job& job, v1::JobState from,
                                    v1::JobState to) {
  const std::string kind = KindName(job.spec());
  const auto gauge = [&](v1::JobState state) -> prometheus::Gauge& {
    return jobs_.Add({{"kind", kind}, {"state", LowerCase(StateName(state))}});
  };
  if (from != v1::JOB_STATE_UNSPECIFIED) {
    gauge(from).Decrement();
    transitions_.Add({{"kind", kind}, {"state", LowerCase(StateName(to))}}).Increment();
  }
  gauge(to).Increment();
  if (IsEnded(to)) {
    absl::MutexLock lock(&mutex_);
    const auto it = series_.find(job.job_id());
    if (it != series_.end()) it->second.ended_millis = monotonic_millis;
  }
}

CoordinatorMetrics::JobSeries* CoordinatorMetrics::SeriesOf(const v1::Job& job) {
  const auto it = series_.find(job.job_id());
  if (it != series_.end()) return &it->second;
  std::string label = job.spec().name();
  for (auto other = series_.begin(); other != series_.end();) {
    if (other->second.job_name != label) {
      ++other;
    } else if (other->second.ended_millis >= 0) {
      Remove((other++)->first);  // the newer job of the name takes over
    } else {
      label += "-" + job.job_id();
      break;
    }
  }
  if (series_.size() >= options_.max_jobs) {
    const auto oldest =
        std::min_element(series_.begin(), series_.end(), [](const auto& a, const auto& b) {
          const auto rank = [](const JobSeries& series) {
            return series.ended_millis < 0 ? std::numeric_limits<int64_t>::max()
                                           : series.ended_millis;
          };
          return rank(a.second) < rank(b.second);
        });
    if (oldest->second.ended_millis < 0) return nullptr;  // all of them still run
    Remove(oldest->first);
  }
  const auto added = series_.try_emplace(job.job_id()).first;
  added->second.job_name = std::move(label);
  return &added->second;
}

void CoordinatorMetrics::Remove(const std::string& job_id) {
  const auto it = series_.find(job_id);
  for (const std::function<void()>& removal : it->second.removals) removal();
  series_.erase(it);
}

int64_t CoordinatorMetrics::RemoveOld(int64_t monotonic_millis) {
  absl::MutexLock lock(&mutex_);
  int64_t next = std::numeric_limits<int64_t>::max();
  for (auto it = series_.begin(); it != series_.end();) {
    const int64_t ended = (it->second).ended_millis;
    const std::string job_id = (it++)->first;
    if (ended < 0) continue;
    if (monotonic_millis >= ended + options_.keep_series_ms) {
      Remove(job_id);
    } else {
      next = std::min(next, ended + options_.keep_series_ms);
    }
  }
  return next;
}

void CoordinatorMetrics::Set(JobSeries& series, prometheus::Family<prometheus::Gauge>& family,
                             const Labels& labels, double value) {
  prometheus::Gauge*& gauge = series.gauges[SeriesKey(family.GetName(), labels)];
  if (gauge == nullptr) {
    Labels all = labels;
    all["job_name"] = series.job_name;
    gauge = &family.Add(all);
    series.removals.push_back([&family, gauge = gauge] { family.Remove(gauge); });
  }
  gauge->Set(value);
}

void CoordinatorMetrics::Add(JobSeries& series, prometheus::Family<prometheus::Counter>& family,
                             const Labels& labels, double value) {
  prometheus::Counter*& counter = series.counters[SeriesKey(family.GetName(), labels)];
  if (counter == nullptr) {
    Labels all = labels;
    all["job_name"] = series.job_name;
    counter = &family.Add(all);
    series.removals.push_back([&family, counter = counter] { family.Remove(counter); });
  }
  counter->Increment(value);
}

void CoordinatorMetrics::Observe(JobSeries& series,
                                 prometheus::Family<prometheus::Histogram>& family,
                                 const std::vector<double>& buckets, double value) {
  prometheus::Histogram*& histogram = series.histograms[family.GetName()];
  if (histogram == nullptr) {
    histogram = &family.Add({{"job_name", series.job_name}}, Buckets(buckets));
    series.removals.push_back([&family, histogram = histogram] { family.Remove(histogram); });
  }
  histogram->Observe(value);
}

void CoordinatorMetrics::OnStep(const v1::Job& job, const v1::StepReport& step) {
  absl::MutexLock lock(&mutex_);
  JobSeries* series = SeriesOf(job);
  if (series == nullptr) return;
  Set(*series, loss_, {}, step.loss());
  Set(*series, balance_loss_, {}, step.balance_loss());
  Set(*series, learning_rate_, {}, step.learning_rate());
  Set(*series, grad_norm_, {}, step.gradient_norm());
  Set(*series, tokens_per_second_, {}, step.tokens_per_second());
  Set(*series, model_flops_, {}, step.model_flops_per_second());
  Set(*series, model_flops_ratio_, {}, step.model_flops_utilisation());
  Set(*series, last_step_time_, {}, std::floor(static_cast<double>(::time(nullptr))));
  Add(*series, steps_, {}, 1);
  Add(*series, tokens_, {}, std::round(step.tokens_per_second() * step.step_seconds()));
  Observe(*series, step_seconds_, kStepBuckets, step.step_seconds());
  Add(*series, replay_mismatches_, {}, 0);
  Add(*series, checkpoint_saves_, {}, 0);
  Add(*series, checkpoint_failures_, {}, 0);
  ExportRouting(*series, step);

  int64_t all_samples = 0;
  for (const v1::DomainCount& domain : step.domains()) all_samples += domain.samples();
  for (const v1::DomainCount& domain : step.domains()) {
    int64_t& known = series->domain_samples[domain.domain()];
    Add(*series, domain_samples_, {{"domain", domain.domain()}},
        static_cast<double>(std::max<int64_t>(0, domain.samples() - known)));
    known = domain.samples();
    Set(*series, target_weight_, {{"domain", domain.domain()}}, domain.weight());
    Set(*series, domain_epochs_, {{"domain", domain.domain()}}, domain.epochs());
    if (domain.has_heldout_loss()) {
      Set(*series, validation_loss_, {{"domain", domain.domain()}}, domain.heldout_loss());
    }
    if (all_samples > 0) {
      Set(*series, domain_weight_, {{"domain", domain.domain()}},
          static_cast<double>(domain.samples()) / static_cast<double>(all_samples));
    }
  }
}

void CoordinatorMetrics::OnDecision(const v1::Job& job, const v1::SamplerDecision& decision) {
  absl::MutexLock lock(&mutex_);
  JobSeries* series = SeriesOf(job);
  if (series == nullptr) return;
  Set(*series, sampler_version_, {}, static_cast<double>(decision.version()));
  for (const v1::DecidedDomain& domain : decision.domains()) {
    Set(*series, heldout_loss_, {{"domain", domain.domain()}}, domain.loss());
    Set(*series, reference_loss_, {{"domain", domain.domain()}}, domain.reference_loss());
  }
}

void CoordinatorMetrics::ExportRouting(JobSeries& series, const v1::StepReport& step) {
  for (int layer = 0; layer < step.routing_size(); ++layer) {
    const auto& load = step.routing(layer).load();
    double sum = 0;
    for (const int64_t tokens : load) sum += static_cast<double>(tokens);
    if (load.empty() || sum <= 0) continue;
    const double mean = sum / load.size();
    double variance = 0;
    for (int expert = 0; expert < load.size(); ++expert) {
      const double ratio = static_cast<double>(load[expert]) / mean;
      variance += (ratio - 1) * (ratio - 1) / load.size();
      Set(series, router_load_,
          {{"layer", std::to_string(layer)}, {"expert", std::to_string(expert)}}, ratio);
    }
    Set(series, router_cv_, {{"layer", std::to_string(layer)}}, std::sqrt(variance));
    Set(series, router_dropped_, {{"layer", std::to_string(layer)}},
        static_cast<double>(step.routing(layer).dropped()) / sum);
  }
}

void CoordinatorMetrics::OnReplayMismatch(const v1::Job& job) {
  absl::MutexLock lock(&mutex_);
  if (JobSeries* series = SeriesOf(job)) Add(*series, replay_mismatches_, {}, 1);
}

void CoordinatorMetrics::OnWarning(const v1::Job& job, const v1::TrainWarning& warning) {
  absl::MutexLock lock(&mutex_);
  if (JobSeries* series = SeriesOf(job)) Add(*series, warnings_, {{"kind", warning.kind()}}, 1);
}

void CoordinatorMetrics::OnCheckpointFailed(const v1::Job& job) {
  absl::MutexLock lock(&mutex_);
  if (JobSeries* series = SeriesOf(job)) Add(*series, checkpoint_failures_, {}, 1);
}

void CoordinatorMetrics::OnArtefact(const v1::Job& job, const v1::Artefact& artefact,
                                    const v1::ArtefactWritten& written) {
  absl::MutexLock lock(&mutex_);
  JobSeries* series = nullptr;
  if (artefact.kind() == v1::ARTEFACT_KIND_CHECKPOINT) {
    if ((series = SeriesOf(job)) == nullptr) return;
    Add(*series, checkpoint_saves_, {}, 1);
    Observe(*series, checkpoint_seconds_, kCheckpointBuckets, written.write_seconds());
    Set(*series, checkpoint_time_, {},
        static_cast<double>(ToUnixMillis(artefact.create_time())) / 1000.0);
    Set(*series, checkpoint_bytes_, {}, static_cast<double>(artefact.size_bytes()));
  } else if (artefact.kind() == v1::ARTEFACT_KIND_REPORT) {
    if ((series = SeriesOf(job)) == nullptr) return;
    ExportEvaluation(*series, artefact);
  }
}

// A table of cells (docs/formats/artefact.md): the titles "domain", "LABEL loss", "LABEL ppl", ...,
// then one row per domain.
void CoordinatorMetrics::ExportEvaluation(JobSeries& series, const v1::Artefact& report) {
  const auto table = report.metadata().fields().find("table");
  if (table == report.metadata().fields().end()) return;
  const auto& rows = table->second.list_value().values();
  if (rows.empty()) return;
  const std::string kSuffix = " loss";
  const auto& titles = rows[0].list_value().values();
  for (int row = 1; row < rows.size(); ++row) {
    const auto& cells = rows[row].list_value().values();
    if (cells.size() != titles.size()) continue;
    for (int column = 1; column < cells.size(); ++column) {
      const std::string& title = titles[column].string_value();
      if (!title.ends_with(kSuffix)) continue;
      const std::string& cell = cells[column].string_value();
      char* end = nullptr;
      const double loss = std::strtod(cell.c_str(), &end);
      if (cell.empty() || *end != '\0') continue;  // "-": no sample of this domain
      Set(series, evaluation_loss_,
          {{"model", title.substr(0, title.size() - kSuffix.size())},
           {"domain", cells[0].string_value()}},
          loss);
    }
  }
}

}  // namespace moe::coordinator
