// The dynamic domain-weight sampler: owner of the domain weights of every train job with a dynamic
// mixture, and of the journal of its decisions. Belongs to the loop's thread (coordinator/turn.h).
//
// A decision is made once per step of a job and never changed: a later attempt that comes to the
// same step gets the one that is there. It is durable before the rank hears of it.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "coordinator/job_table.h"
#include "coordinator/run_spec.h"
#include "coordinator/sampler/decide.h"
#include "coordinator/turn.h"
#include "moe/v1/artefact.pb.h"
#include "moe/v1/record.pb.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

class DomainSampler {
 public:
  DomainSampler(storage::Store* store, JobTable* jobs) : store_(store), jobs_(jobs) {}

  // Reads the journals. Once, before anything else.
  absl::Status Load();

  // Settles the reference losses of a job that is about to be placed; later attempts keep them.
  // Edits `record`, which the caller stores. Does nothing for jobs without a dynamic mixture.
  absl::Status Settle(v1::JobRecord& record, const std::map<std::string, ResolvedInput>& inputs);

  // For a job that goes on from another one's checkpoint: its journal begins with the decisions
  // that led there, and what is pinned stays pinned. FAILED_PRECONDITION where there are decisions
  // and the job has no dynamic mixture to apply them.
  absl::Status TakeOver(Turn& turn, v1::JobRecord& record, const v1::Artefact& checkpoint);

  // The decision for what was measured: the one that the journal has for this step, or a new one,
  // added to the turn's batch with the change of the job. Errors as of decide.h.
  absl::StatusOr<v1::SamplerDecision> Decide(Turn& turn, v1::JobRecord& record, int32_t attempt,
                                             const v1::DomainLosses& measured);

  // Empty for a job without decisions.
  const Journal& JournalOf(uint64_t job) const;

  // As SamplerService describes them.
  absl::Status Pin(Turn& turn, v1::JobRecord& record, const std::string& user,
                   const std::map<std::string, double>& weights);
  absl::Status Unpin(Turn& turn, v1::JobRecord& record);
  absl::Status RollBack(Turn& turn, v1::JobRecord& record, const std::string& user,
                        int64_t version);

 private:
  storage::Store* const store_;
  JobTable* const jobs_;
  std::map<uint64_t, Journal> journals_;
};

}  // namespace moe::coordinator
