#include "tests/simulation/network.h"

#include "common/status.h"

namespace moe::simulation {

std::shared_ptr<Connection> Connection::Make(World* world, const Path* path, Ends ends) {
  return std::shared_ptr<Connection>(new Connection(world, path, std::move(ends)));
}

Connection::Connection(World* world, const Path* path, Ends ends)
    : world_(world),
      id_(world->NextId()),
      path_(path),
      ends_(std::move(ends)),
      up_(std::make_shared<Pipe<v1::SessionRequest>>(world, path, &Path::up_blocked,
                                                     ends_.to_coordinator)),
      down_(std::make_shared<Pipe<v1::SessionResponse>>(world, path, &Path::down_blocked,
                                                        ends_.to_worker)) {}

void Connection::EndByWorker() {
  worker_knows_ = true;
  up_->Break();
  down_->Break();
  TellCoordinator(path_->up_blocked ? kKeepaliveMillis : world_->random.Between(1, 50));
}

void Connection::End(const absl::Status& status) { EndByCoordinator(Message(status)); }

void Connection::EndByCoordinator(const std::string& why) {
  coordinator_knows_ = true;
  up_->Break();
  down_->Break();
  TellWorker(path_->down_blocked ? kKeepaliveMillis : world_->random.Between(1, 50), why);
}

void Connection::BreakBetween() {
  up_->Break();
  down_->Break();
  TellCoordinator(world_->random.Between(1, 20'000));
  TellWorker(world_->random.Between(1, 5'000), "the connection broke");
}

void Connection::TellCoordinator(int64_t delay_ms) {
  world_->time.After(delay_ms, [self = shared_from_this()] {
    if (!std::exchange(self->coordinator_knows_, true)) self->ends_.coordinator_told_of_end();
  });
}

void Connection::TellWorker(int64_t delay_ms, const std::string& why) {
  world_->time.After(delay_ms, [self = shared_from_this(), why] {
    if (!std::exchange(self->worker_knows_, true)) self->ends_.worker_told_of_end(why);
  });
}

}  // namespace moe::simulation
