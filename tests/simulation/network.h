// The way between a worker and the coordinator: streams that keep their order, and lose, delay or
// hold back what is on its way.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <utility>

#include "absl/status/status.h"
#include "coordinator/worker_registry.h"
#include "moe/v1/worker_service.pb.h"
#include "tests/simulation/world.h"

namespace moe::simulation {

// What is wrong at present between one worker and the coordinator.
struct Path {
  bool up_blocked = false;             // nothing comes from the worker
  bool down_blocked = false;           // nothing comes to the worker
  bool up_blocked_from_start = false;  // nothing comes from it once it has started a rank
  int64_t max_delay_ms = 5;
};

// One direction of a stream. What is sent twice in a row shows whether the receiver minds.
template <typename Message>
class Pipe : public std::enable_shared_from_this<Pipe<Message>> {
 public:
  Pipe(World* world, const Path* path, const bool Path::*blocked,
       std::function<void(const Message&)> deliver)
      : world_(world), path_(path), blocked_(blocked), deliver_(std::move(deliver)) {}

  void Send(const Message& message) {
    if (broken_) return;
    queue_.push_back(message);
    if (queue_.size() == 1) Plan();
  }
  // What is on its way is lost.
  void Break() {
    broken_ = true;
    queue_.clear();
  }

 private:
  static constexpr int64_t kRetryMillis = 500;

  void Plan() {
    world_->time.After(world_->random.Between(1, path_->max_delay_ms),
                       [self = this->shared_from_this()] { self->DeliverNext(); });
  }
  void DeliverNext() {
    if (broken_) return;
    if (path_->*blocked_) {
      world_->time.After(kRetryMillis, [self = this->shared_from_this()] { self->DeliverNext(); });
      return;
    }
    const Message message = std::move(queue_.front());
    queue_.pop_front();
    if (!queue_.empty()) Plan();
    deliver_(message);
  }

  World* const world_;
  const Path* const path_;
  const bool Path::*const blocked_;
  const std::function<void(const Message&)> deliver_;
  std::deque<Message> queue_;
  bool broken_ = false;
};

// A stream between the two; the coordinator's end of it is a WorkerSession.
class Connection final : public coordinator::WorkerSession,
                         public std::enable_shared_from_this<Connection> {
 public:
  struct Ends {
    std::function<void(const v1::SessionRequest&)> to_coordinator;
    std::function<void()> coordinator_told_of_end;
    std::function<void(const v1::SessionResponse&)> to_worker;
    std::function<void(const std::string& why)> worker_told_of_end;
  };
  static std::shared_ptr<Connection> Make(World* world, const Path* path, Ends ends);

  int64_t id() const { return id_; }

  // The worker's end.
  void SendUp(const v1::SessionRequest& message) { up_->Send(message); }
  // The worker, or its process, is done with it.
  void EndByWorker();

  // The coordinator's end.
  void Send(const v1::SessionResponse& message) override { down_->Send(message); }
  void End(const absl::Status& status) override;
  void EndByCoordinatorDeath() { EndByCoordinator("the connection was reset"); }

  // Something between them gave up; both notice, each in its own time.
  void BreakBetween();

 private:
  // Who notices an end only by its own keepalive does so after this.
  static constexpr int64_t kKeepaliveMillis = 80'000;

  Connection(World* world, const Path* path, Ends ends);
  void EndByCoordinator(const std::string& why);
  void TellCoordinator(int64_t delay_ms);
  void TellWorker(int64_t delay_ms, const std::string& why);

  World* const world_;
  const int64_t id_;
  const Path* const path_;
  const Ends ends_;
  std::shared_ptr<Pipe<v1::SessionRequest>> up_;
  std::shared_ptr<Pipe<v1::SessionResponse>> down_;
  bool coordinator_knows_ = false;
  bool worker_knows_ = false;
};

}  // namespace moe::simulation
