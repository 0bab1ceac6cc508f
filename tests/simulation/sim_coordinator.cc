#include "tests/simulation/sim_coordinator.h"

#include <algorithm>
#include <limits>
#include <utility>

#include "common/status.h"
#include "coordinator/job_state.h"
#include "tests/simulation/agreeable_facts.h"

namespace moe::simulation {

using coordinator::Turn;
using storage::Batch;

namespace {

constexpr char kArtefactRoot[] = "/artefacts";
constexpr int64_t kRestartMillis = 2000;

// Whether the planted bug forgets to store this.
bool Forgets(PlantedBug bug, const Batch::Write& write) {
  using storage::Family;
  switch (bug) {
    case PlantedBug::kNextJobNotStored:
      return write.family == Family::kMeta && write.key == "next_job";
    case PlantedBug::kRevisionNotStored:
      return write.family == Family::kMeta && write.key == "revision";
    case PlantedBug::kRequestIdNotStored:
      return write.family == Family::kRequestIds;
    case PlantedBug::kJobNotStored: {
      v1::JobRecord record;
      return write.family == Family::kJobs && record.ParseFromString(*write.value) &&
             coordinator::IsEnded(record.job().state());
    }
    case PlantedBug::kArtefactNotStored:
      return write.family == Family::kArtefacts && write.value.has_value();
    case PlantedBug::kLogNotStored:
      return write.family == Family::kLogs;
    case PlantedBug::kRankCursorNotStored:
      return write.family == Family::kRanks && write.value.has_value();
    case PlantedBug::kDecisionNotStored:
      return write.family == Family::kSampler;
    case PlantedBug::kArrayProgressNotStored: {
      v1::JobRecord record;
      return write.family == Family::kJobs && record.ParseFromString(*write.value) &&
             record.next_array_index() > 0;
    }
    case PlantedBug::kDrainNotStored:
      return write.family == Family::kWorkers;
    case PlantedBug::kLedgerEndNotStored: {
      v1::AttemptLedger ledger;
      return write.family == Family::kLedgers && ledger.ParseFromString(*write.value) &&
             ledger.closed();
    }
    case PlantedBug::kAuditNotStored:
      return write.family == Family::kAudit;
    case PlantedBug::kAttemptNotDropped:
      return write.family == Family::kAttempts && !write.value.has_value();
    default:
      return false;
  }
}

}  // namespace

// The coordinator's end of a stream, as long as the process lives that accepted it.
class SimCoordinator::Session final : public coordinator::WorkerSession {
 public:
  Session(SimCoordinator* coordinator, std::shared_ptr<Connection> connection)
      : coordinator_(coordinator),
        incarnation_(coordinator->incarnation_),
        connection_(std::move(connection)) {}
  void Send(const v1::SessionResponse& message) override {
    if (coordinator_->incarnation_ != incarnation_ || coordinator_->sends_left_ == 0) return;
    if (coordinator_->sends_left_ > 0) --coordinator_->sends_left_;
    connection_->Send(message);
  }
  void End(const absl::Status& status) override {
    if (coordinator_->incarnation_ == incarnation_) connection_->End(status);
  }

 private:
  SimCoordinator* const coordinator_;
  const int64_t incarnation_;
  const std::shared_ptr<Connection> connection_;
};

struct SimCoordinator::Process final : coordinator::TurnQueue,
                                       coordinator::FileWork,
                                       coordinator::SupervisorObserver {
  struct Stream {
    std::shared_ptr<Session> session;
    coordinator::SessionInbox inbox;
  };

  void Change(std::function<void(Turn&)> change) override {
    tasks.push_back({std::move(change), nullptr});
    owner->PlanTurn(owner->slow_ ? 400 : 3);
  }
  void Read(std::function<void()> read) override {
    tasks.push_back({nullptr, std::move(read)});
    owner->PlanTurn(owner->slow_ ? 400 : 3);
  }
  void Post(std::function<void()> work) override {
    file_work.push_back(std::move(work));
    if (file_work.size() == 1) owner->PlanFileWork();
  }
  void OnReplayMismatch(const v1::Job& job) override {
    owner->observer_.on_replay_mismatch(job.job_id());
  }

  SimCoordinator* owner = nullptr;
  std::unique_ptr<storage::Store> store;
  std::unique_ptr<coordinator::JobTable> jobs;
  std::unique_ptr<coordinator::Catalog> catalog;
  std::unique_ptr<coordinator::WorkerRegistry> workers;
  std::unique_ptr<coordinator::DomainSampler> sampler;
  coordinator::QueueTree queue_tree;
  std::unique_ptr<coordinator::Supervisor> supervisor;
  std::unique_ptr<coordinator::AuditJournal> audit;
  std::unique_ptr<coordinator::TurnRunner> runner;
  std::map<int64_t, std::shared_ptr<Stream>> streams;  // by the connection's id
  std::map<int64_t, std::shared_ptr<Connection>> connections;
  std::vector<coordinator::TurnRunner::Task> tasks;
  std::deque<std::function<void()>> file_work;
  std::vector<Batch::Write> told_but_not_stored;  // of a planted bug
  bool turn_planned = false;
  int64_t deadline_generation = 0;

  Core core() const {
    return {store.get(),   jobs.get(),       catalog.get(), sampler.get(),
            workers.get(), supervisor.get(), audit.get(),   &owner->clock_};
  }
};

SimCoordinator::SimCoordinator(World* world, SimFiles* files, uint64_t seed, Observer observer)
    : world_(world),
      files_(files),
      observer_(std::move(observer)),
      clock_(&world->time, 5'000, world->Has(PlantedBug::kWallClockForLeases)),
      disk_(seed, world->Has(PlantedBug::kDiskIgnoresSync)) {}

SimCoordinator::~SimCoordinator() = default;

void SimCoordinator::Start() {
  if (up()) return;
  const absl::Status started = TryStart();
  world_->Note("coordinator starts: {}", started.ok() ? "ok" : Message(started));
  if (started.ok()) {
    PlanTurn(1);
    return;
  }
  // Only a disk that is full, or that was planned to fail, may keep it from starting.
  const bool excused = disk_.failed() || absl::IsResourceExhausted(started);
  if (!excused) world_->Violate("the coordinator cannot start: {}", Message(started));
  process_.reset();
  if (disk_.failed()) disk_.Restart(DrawOutage());
  world_->time.After(kRestartMillis, [this] { Start(); });
}

absl::Status SimCoordinator::TryStart() {
  process_ = std::make_unique<Process>();
  Process& process = *process_;
  process.owner = this;
  ++incarnation_;
  MOE_ASSIGN_OR_RETURN(process.store, storage::Store::Open({.path = "/store", .env = disk_.env()}));
  process.queue_tree = SimQueues(!world_->Has(PlantedBug::kQueueLimitIgnored));
  process.jobs = std::make_unique<coordinator::JobTable>(process.store.get());
  process.catalog = std::make_unique<coordinator::Catalog>(process.store.get());
  process.workers =
      std::make_unique<coordinator::WorkerRegistry>(coordinator::WorkerRegistry::Options{
          .lease_margin_ms = world_->Has(PlantedBug::kNoLeaseMargin) ? 0 : 6000});
  process.sampler =
      std::make_unique<coordinator::DomainSampler>(process.store.get(), process.jobs.get());
  process.supervisor = std::make_unique<coordinator::Supervisor>(
      coordinator::Supervisor::Options{.artefact_root = kArtefactRoot, .preempt_grace_ms = 30'000},
      coordinator::Supervisor::Parts{.store = process.store.get(),
                                     .jobs = process.jobs.get(),
                                     .catalog = process.catalog.get(),
                                     .sampler = process.sampler.get(),
                                     .workers = process.workers.get(),
                                     .files = files_,
                                     .file_work = process_.get(),
                                     .queue = process_.get(),
                                     .observer = process_.get(),
                                     .queue_tree = &process.queue_tree,
                                     .look_up = [](const std::vector<v1::JobSpec>&) {
                                       return std::make_shared<AgreeableFacts>();
                                     }});
  process.audit = std::make_unique<coordinator::AuditJournal>(
      [process = process_.get()] { process->Change([](Turn&) {}); });
  process.runner = std::make_unique<coordinator::TurnRunner>(
      &clock_, coordinator::TurnRunner::Hooks{
                   .before_commit = [this](Turn& turn) { BeforeCommit(turn); },
                   .commit = [this](const Batch& batch) { return Commit(batch); }});
  MOE_RETURN_IF_ERROR(process.workers->Load(*process.store));
  MOE_RETURN_IF_ERROR(process.jobs->Load());
  MOE_RETURN_IF_ERROR(process.catalog->Load());
  MOE_RETURN_IF_ERROR(process.sampler->Load());
  MOE_RETURN_IF_ERROR(process.audit->Load(*process.store));
  MOE_RETURN_IF_ERROR(process.supervisor->Load(clock_.UnixMillis(), clock_.MonotonicMillis()));
  observer_.on_start(process.core());
  return absl::OkStatus();
}

Outage SimCoordinator::DrawOutage() {
  return world_->random.OneIn(2) ? Outage::kPower : Outage::kProcess;
}

void SimCoordinator::Kill(Outage outage) {
  if (!up()) return;
  world_->Note("coordinator dies ({})", outage == Outage::kPower ? "power" : "process");
  ++incarnation_;
  const auto connections = std::move(process_->connections);
  process_->tasks.clear();
  process_->file_work.clear();
  disk_.Fail();  // what its destruction still wants to write is not written
  process_.reset();
  disk_.Restart(outage);
  dies_after_commit_ = false;
  sends_left_ = -1;
  for (const auto& [id, connection] : connections) connection->EndByCoordinatorDeath();
  world_->time.After(world_->random.Between(200, 40'000), [this] { Start(); });
}

// As Server does it.
void SimCoordinator::BeforeCommit(Turn& turn) {
  process_->supervisor->BeforeCommit(turn);
  process_->audit->BeforeCommit(turn);
  const int64_t now = turn.monotonic_millis;
  process_->supervisor->CountSlots(process_->workers->Count(now).slots, now);
}

absl::Status SimCoordinator::Commit(const Batch& batch) {
  world_->Note("commit of {} writes", batch.writes().size());
  std::vector<Batch::Write> writes = batch.writes();
  std::erase_if(writes, [this](const Batch::Write& write) { return Forgets(world_->bug, write); });
  if (world_->Has(PlantedBug::kToldBeforeDurable)) writes.swap(process_->told_but_not_stored);
  MOE_RETURN_IF_ERROR(process_->store->Commit(Batch(std::move(writes))));
  if (dies_after_commit_) return Unavailable("the process dies");
  return absl::OkStatus();
}

void SimCoordinator::PlanTurn(int64_t delay_ms) {
  if (process_->turn_planned) return;
  process_->turn_planned = true;
  world_->time.After(world_->random.Between(0, delay_ms), [this, incarnation = incarnation_] {
    if (incarnation == incarnation_) RunTurn();
  });
}

void SimCoordinator::RunTurn() {
  Process& process = *process_;
  process.turn_planned = false;
  const auto tasks = std::exchange(process.tasks, {});
  const absl::Status status = process.runner->Run(tasks);
  if (!status.ok() || sends_left_ == 0) {
    if (!status.ok()) world_->Note("the store fails: {}", Message(status));
    return Kill(DrawOutage());
  }
  observer_.after_turn(process.core());
  const int64_t deadline =
      std::min(process.supervisor->NextDeadlineMillis(), process.audit->NextDeadlineMillis());
  if (deadline == std::numeric_limits<int64_t>::max()) return;
  const int64_t generation = ++process.deadline_generation;
  world_->time.After(std::max<int64_t>(1, deadline - clock_.MonotonicMillis()),
                     [this, generation, incarnation = incarnation_] {
                       if (incarnation != incarnation_) return;
                       if (generation == process_->deadline_generation) PlanTurn(0);
                     });
}

void SimCoordinator::PlanFileWork() {
  world_->time.After(world_->random.Between(1, slow_ ? 4000 : 60), [this, now = incarnation_] {
    if (now != incarnation_) return;
    const auto work = std::move(process_->file_work.front());
    process_->file_work.pop_front();
    if (!process_->file_work.empty()) PlanFileWork();
    work();
  });
}

void SimCoordinator::Change(const std::function<void(Turn&, const Core&)>& change) {
  if (!up()) return;
  process_->Change([this, change](Turn& turn) { change(turn, process_->core()); });
}

void SimCoordinator::Read(const std::function<void(const Core&)>& read) {
  if (!up()) return;
  process_->Read([this, read] { read(process_->core()); });
}

void SimCoordinator::Accept(const std::shared_ptr<Connection>& connection) {
  process_->connections[connection->id()] = connection;
  process_->streams[connection->id()] = std::make_shared<Process::Stream>(
      Process::Stream{std::make_shared<Session>(this, connection),
                      coordinator::SessionInbox(process_->workers.get(), process_->supervisor.get(),
                                                std::nullopt)});
}

void SimCoordinator::Deliver(const std::shared_ptr<Connection>& connection,
                             const v1::SessionRequest& message) {
  if (!up() || !process_->streams.contains(connection->id())) return;
  const auto stream = process_->streams.at(connection->id());
  process_->Change([this, stream, message](Turn& turn) {
    const absl::Status status = stream->inbox.Handle(turn, message, stream->session);
    if (status.ok()) return;
    world_->Note("session of '{}' ends: {}", stream->inbox.worker_id(), Message(status));
    turn.After([stream, status] { stream->session->End(status); });
  });
}

void SimCoordinator::Closed(const std::shared_ptr<Connection>& connection) {
  if (!up() || !process_->streams.contains(connection->id())) return;
  process_->Change([this, stream = process_->streams.at(connection->id())](Turn&) {
    stream->inbox.Closed(stream->session.get());
  });
  process_->streams.erase(connection->id());
  process_->connections.erase(connection->id());
}

}  // namespace moe::simulation
