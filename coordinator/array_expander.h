// Makes jobs of the elements of arrays (JobSpec.array) as there are slots for them, and some ahead:
// of an array of any size the rest is one record. Belongs to the loop's thread
// (coordinator/turn.h).
//
// An element is completed and checked like a submission, on the file thread; what is under way then
// is not stored: after a restart it is made again from the array's next index.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <vector>

#include "absl/status/statusor.h"
#include "coordinator/artefact_files.h"
#include "coordinator/doorbell.h"
#include "coordinator/job_spec.h"
#include "coordinator/job_table.h"
#include "coordinator/turn.h"
#include "coordinator/worker_registry.h"

namespace moe::coordinator {

class ArrayExpander {
 public:
  // What is known on the loop's thread of what the jobs refer to; asked on the file thread then.
  using LookUp =
      std::function<std::shared_ptr<const SpecFacts>(const std::vector<v1::JobSpec>& jobs)>;
  struct Parts {
    JobTable* jobs = nullptr;
    const WorkerRegistry* workers = nullptr;
    FileWork* file_work = nullptr;
    TurnQueue* queue = nullptr;
    Doorbell* doorbell = nullptr;
    LookUp look_up;
  };
  explicit ArrayExpander(Parts parts) : parts_(std::move(parts)) {}

  // At the end of every group of changes.
  void Run(Turn& turn);

 private:
  // How many elements may be made now.
  int32_t Wanted(const v1::JobRecord& record, int64_t slots) const;
  void Expand(Turn& turn, uint64_t array, const v1::JobRecord& record, int32_t count);

  const Parts parts_;
  std::set<uint64_t> under_way_;  // arrays of which elements are being completed
};

}  // namespace moe::coordinator
