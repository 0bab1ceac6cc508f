// Every metric of the coordinator (moe-coordinator --dump-metrics lists them).
//
// Series with a job_name exist from a job's first report until some minutes after its end, and for
// a limited number of jobs, so that /metrics stays small however many jobs have been run. Where two
// jobs of one name run at once, the later one's job_name has its id: "train-j17".
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "absl/base/thread_annotations.h"
#include "absl/synchronization/mutex.h"
#include "common/metrics/metric_list.h"
#include "coordinator/sharing_metrics.h"
#include "coordinator/supervisor.h"

namespace moe::coordinator {

// Thread-safe.
class CoordinatorMetrics final : public SupervisorObserver {
 public:
  struct Options {
    int64_t keep_series_ms = 10 * 60 * 1000;  // after the end of a job
    size_t max_jobs = 50;                     // with series of their own
  };

  explicit CoordinatorMetrics(Options options);

  const MetricList& list() const { return list_; }
  const std::shared_ptr<prometheus::Registry>& registry() const { return list_.registry(); }

  void OnCommit(double seconds);
  void OnJobState(int64_t monotonic_millis, const v1::Job& job, v1::JobState from, v1::JobState to);
  void OnRpc(const std::string& method, const std::string& code);
  void OnAdmitted(const std::string& method);
  // `reason`: one of HandshakeFailureReasons().
  void OnHandshakeFailure(const std::string& reason);
  SharingMetrics& sharing() { return sharing_; }
  void SetWorkers(const std::map<std::string, int>& count_by_state);
  // Removes the series of jobs that ended long enough ago. When the next removal is due is returned
  // (monotonic, INT64_MAX for never).
  int64_t RemoveOld(int64_t monotonic_millis);

  void OnSchedulePass(double seconds) override;
  void OnPlaced(const v1::Job& job, double queue_wait_seconds) override;
  void OnStep(const v1::Job& job, const v1::StepReport& step) override;
  void OnReplayMismatch(const v1::Job& job) override;
  void OnWarning(const v1::Job& job, const v1::TrainWarning& warning) override;
  void OnDecision(const v1::Job& job, const v1::SamplerDecision& decision) override;
  void OnArtefact(const v1::Job& job, const v1::Artefact& artefact,
                  const v1::ArtefactWritten& written) override;
  void OnCheckpointFailed(const v1::Job& job) override;
  void OnStaleMessage() override;

 private:
  // The series of one job, each with how to remove it.
  struct JobSeries {
    std::string job_name;  // the label
    std::map<std::string, prometheus::Gauge*> gauges;
    std::map<std::string, prometheus::Counter*> counters;
    std::map<std::string, prometheus::Histogram*> histograms;
    std::vector<std::function<void()>> removals;
    int64_t ended_millis = -1;  // monotonic; -1: has not ended
    std::map<std::string, int64_t> domain_samples;
  };
  using Labels = std::map<std::string, std::string>;

  JobSeries* SeriesOf(const v1::Job& job) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  void Remove(const std::string& job_id) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);
  static void Set(JobSeries& series, prometheus::Family<prometheus::Gauge>& family,
                  const Labels& labels, double value);
  static void Add(JobSeries& series, prometheus::Family<prometheus::Counter>& family,
                  const Labels& labels, double value);
  static void Observe(JobSeries& series, prometheus::Family<prometheus::Histogram>& family,
                      const std::vector<double>& buckets, double value);
  void ExportRouting(JobSeries& series, const v1::StepReport& step);
  void ExportEvaluation(JobSeries& series, const v1::Artefact& report);

  const Options options_;
  MetricList list_;
  SharingMetrics sharing_{&list_};

  prometheus::Family<prometheus::Gauge>& build_info_;
  prometheus::Family<prometheus::Gauge>& jobs_;
  prometheus::Family<prometheus::Counter>& transitions_;
  prometheus::Family<prometheus::Gauge>& workers_;
  prometheus::Histogram& schedule_seconds_;
  prometheus::Histogram& queue_wait_seconds_;
  prometheus::Histogram& commit_seconds_;
  prometheus::Counter& stale_messages_;
  prometheus::Family<prometheus::Counter>& rpc_requests_;
  prometheus::Family<prometheus::Counter>& admitted_;
  prometheus::Family<prometheus::Counter>& handshake_failures_;

  prometheus::Family<prometheus::Gauge>& loss_;
  prometheus::Family<prometheus::Gauge>& balance_loss_;
  prometheus::Family<prometheus::Gauge>& learning_rate_;
  prometheus::Family<prometheus::Gauge>& grad_norm_;
  prometheus::Family<prometheus::Gauge>& tokens_per_second_;
  prometheus::Family<prometheus::Gauge>& last_step_time_;
  prometheus::Family<prometheus::Counter>& tokens_;
  prometheus::Family<prometheus::Gauge>& model_flops_;
  prometheus::Family<prometheus::Gauge>& model_flops_ratio_;
  prometheus::Family<prometheus::Counter>& warnings_;
  prometheus::Family<prometheus::Counter>& steps_;
  prometheus::Family<prometheus::Histogram>& step_seconds_;
  prometheus::Family<prometheus::Counter>& replay_mismatches_;
  prometheus::Family<prometheus::Gauge>& router_load_;
  prometheus::Family<prometheus::Gauge>& router_cv_;
  prometheus::Family<prometheus::Gauge>& router_dropped_;
  prometheus::Family<prometheus::Counter>& domain_samples_;
  prometheus::Family<prometheus::Gauge>& domain_weight_;
  prometheus::Family<prometheus::Gauge>& target_weight_;
  prometheus::Family<prometheus::Gauge>& domain_epochs_;
  prometheus::Family<prometheus::Gauge>& heldout_loss_;
  prometheus::Family<prometheus::Gauge>& validation_loss_;
  prometheus::Family<prometheus::Gauge>& reference_loss_;
  prometheus::Family<prometheus::Gauge>& sampler_version_;
  prometheus::Family<prometheus::Gauge>& evaluation_loss_;
  prometheus::Family<prometheus::Counter>& checkpoint_saves_;
  prometheus::Family<prometheus::Counter>& checkpoint_failures_;
  prometheus::Family<prometheus::Histogram>& checkpoint_seconds_;
  prometheus::Family<prometheus::Gauge>& checkpoint_time_;
  prometheus::Family<prometheus::Gauge>& checkpoint_bytes_;

  absl::Mutex mutex_;
  std::map<std::string, JobSeries> series_ ABSL_GUARDED_BY(mutex_);  // by job id
};

}  // namespace moe::coordinator
