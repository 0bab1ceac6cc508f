// The parts of the coordinator, as the services see them.
#pragma once

#include <cstdint>
#include <string>

#include "common/clock.h"
#include "coordinator/artefact_files.h"
#include "coordinator/catalog.h"
#include "coordinator/job_table.h"
#include "coordinator/metrics.h"
#include "coordinator/model_facts_cache.h"
#include "coordinator/path_roots.h"
#include "coordinator/queues/queue_tree.h"
#include "coordinator/sampler/domain_sampler.h"
#include "coordinator/supervisor.h"
#include "coordinator/turn.h"
#include "coordinator/worker_registry.h"
#include "storage/rocks/store.h"

namespace moe::coordinator {

class Access;
class AuditJournal;

// Everything but `queue`, `file_work`, `metrics`, `access`, `audit`, `path_roots`, `models` and the
// constants may only be touched from within queue->Change() and queue->Read().
struct Core {
  TurnQueue* queue = nullptr;
  FileWork* file_work = nullptr;  // for the files that submissions name
  CoordinatorMetrics* metrics = nullptr;
  storage::Store* store = nullptr;
  JobTable* jobs = nullptr;
  Catalog* catalog = nullptr;
  DomainSampler* sampler = nullptr;
  WorkerRegistry* workers = nullptr;
  Supervisor* supervisor = nullptr;
  const QueueTree* queue_tree = nullptr;  // its numbers: loop thread only
  Access* access = nullptr;  // null: nobody is asked who they are (loopback without TLS)
  AuditJournal* audit = nullptr;
  const PathRoots* path_roots = nullptr;
  ModelFactsCache* models = nullptr;
  const Clock* clock = nullptr;

  std::string artefact_root;
  std::string metrics_url;
  int64_t start_unix_millis = 0;
};

}  // namespace moe::coordinator
