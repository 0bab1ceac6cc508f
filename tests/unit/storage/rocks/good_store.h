// A small store in which everything agrees: two jobs of a pipeline, one running, with all that the
// coordinator writes beside them.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>

#include "common/audit/audit_chain.h"
#include "storage/rocks/store.h"

namespace moe::storage {

inline Batch GoodBatch() {
  Batch batch;
  batch.PutRevision(9);
  batch.PutNextJob(3);
  batch.PutNextPipeline(2);
  batch.PutVersionCounter("corpus", 1);
  v1::JobRecord done;
  done.mutable_job()->set_job_id("j1");
  done.mutable_job()->set_pipeline_id("p1");
  done.mutable_job()->set_state(v1::JOB_STATE_SUCCEEDED);
  done.mutable_job()->set_attempt(1);
  batch.PutJob(1, done);
  v1::JobRecord runs;
  runs.mutable_job()->set_job_id("j2");
  runs.mutable_job()->set_pipeline_id("p1");
  runs.mutable_job()->set_state(v1::JOB_STATE_RUNNING);
  runs.mutable_job()->set_attempt(1);
  runs.mutable_job()->add_need_job_ids("j1");
  batch.PutJob(2, runs);
  v1::ArtefactRecord corpus;
  corpus.mutable_artefact()->set_name("corpus");
  corpus.mutable_artefact()->set_version(1);
  corpus.mutable_artefact()->set_job_id("j1");
  batch.PutArtefact(corpus);
  v1::AttemptRecord attempt;
  attempt.add_placements()->add_slots(0);
  batch.PutAttempt(2, 1, attempt);
  batch.PutRank({2, 1, 0}, {});
  batch.PutRendezvous(2, 1, "gloo/0", "address");
  batch.PutLog({2, 1, 0}, 0, "hello ");
  batch.PutLog({2, 1, 0}, 6, "world");
  v1::JobEvent event;
  event.set_revision(4);
  batch.PutEvent(2, event);
  v1::StepReport step;
  step.set_step(1);
  batch.PutStep(2, step);
  v1::SamplerDecision decision;
  decision.set_version(1);
  batch.PutDecision(2, decision);
  v1::RequestRecord request;
  request.set_pipeline_id("p1");
  request.add_job_ids("j1");
  request.add_job_ids("j2");
  batch.PutRequest("wish", request);
  batch.PutToken(std::string(32, 'x'), {});
  AuditChain chain;
  for (const char* target : {"p1", "j2"}) {
    v1::AuditEntry entry;
    entry.set_target(target);
    chain.Append(&entry);
    batch.PutAudit(entry);
  }
  return batch;
}

inline void MakeStore(const std::string& path, const Batch& batch) {
  const auto store = Store::Open({.path = path});
  ASSERT_TRUE(store.ok()) << store.status();
  ASSERT_TRUE((*store)->Commit(batch).ok());
}

}  // namespace moe::storage
