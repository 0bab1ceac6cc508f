#include "coordinator/array_expander.h"

#include <algorithm>
#include <utility>

#include "coordinator/job_array.h"
#include "coordinator/job_dependencies.h"

namespace moe::coordinator {
namespace {

// Of one array at once: a turn stays short.
constexpr int32_t kMostAtOnce = 100;

}  // namespace

void ArrayExpander::Run(Turn& turn) {
  if (parts_.jobs->arrays().empty()) return;
  int64_t slots = 0;
  for (const WorkerSlots& worker : parts_.workers->Snapshot(turn.monotonic_millis)) {
    slots += worker.total;
  }
  for (const uint64_t array : parts_.jobs->arrays()) {
    const v1::JobRecord& record = *parts_.jobs->Find(array);
    if (under_way_.contains(array)) continue;
    if (const int32_t count = Wanted(record, slots); count > 0) {
      Expand(turn, array, record, count);
    }
  }
}

int32_t ArrayExpander::Wanted(const v1::JobRecord& record, int64_t slots) const {
  const v1::Job& job = record.job();
  if (job.held() || !parts_.jobs->IsReady(job)) return 0;
  const int32_t limit = job.spec().array().max_running();
  // As many as run at once, and as many again: an element is made in two commits, for which a slot
  // that another leaves should not wait.
  const int64_t useful = slots == 0 ? 0 : 2 * (slots / job.spec().resources().slots()) + 1;
  const int64_t most = limit == 0 ? useful : std::min<int64_t>(limit, useful);
  const int64_t room = std::max<int64_t>(0, most - job.array().live());
  return static_cast<int32_t>(
      std::min<int64_t>({room, job.array().waiting(), int64_t{kMostAtOnce}}));
}

void ArrayExpander::Expand(Turn& turn, uint64_t array, const v1::JobRecord& record, int32_t count) {
  under_way_.insert(array);
  std::vector<v1::JobSpec> specs;
  for (int32_t i = 0; i < count; ++i) {
    specs.push_back(ElementOf(record.job().spec(), record.next_array_index() + i));
  }
  turn.After([this, array, specs = std::move(specs)] {
    std::shared_ptr<const SpecFacts> facts = parts_.look_up(specs);
    parts_.file_work->Post([this, array, specs, facts = std::move(facts)] {
      std::vector<absl::StatusOr<v1::JobSpec>> complete;
      for (const v1::JobSpec& spec : specs) {
        auto jobs = CompletePipeline({spec}, *facts);
        if (jobs.ok()) {
          complete.emplace_back(jobs->front().spec);
        } else {
          complete.emplace_back(jobs.status());
        }
      }
      parts_.queue->Change([this, array, complete = std::move(complete)](Turn& turn) {
        under_way_.erase(array);
        v1::JobRecord& record = *parts_.jobs->Find(array);
        // Cancelled or held meanwhile.
        if (!parts_.jobs->arrays().contains(array) || record.job().held()) return;
        parts_.jobs->AddElements(turn, record, complete);
        parts_.doorbell->Ring();
      });
    });
  });
}

}  // namespace moe::coordinator
