// The communicator among CPU ranks: TCP connections by Gloo, collectives as pairwise exchanges.
//
// With W ranks an exchange takes W - 1 rounds; in round s a rank sends to rank + s and receives
// from rank - s. So reduce-scatter and all-gather each move (W - 1) / W of the tensor per rank,
// the theoretical least, and a sum adds own, rank - 1, rank - 2, ... in that order.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "worker/parallel/communicator.h"
#include "worker/parallel/rendezvous.h"

namespace gloo {
class Context;
namespace transport {
class Device;
}
}  // namespace gloo

namespace moe::parallel {

class GlooCommunicator final : public Communicator {
 public:
  struct Options {
    int rank = 0;
    int world_size = 1;
    // Name or address of this rank's host, as the other ranks reach it.
    std::string host = "127.0.0.1";
    // Of one operation, waiting for the other ranks included.
    int64_t timeout_ms = 120'000;
    // Of connecting: ranks start at different times.
    int64_t connect_timeout_ms = 300'000;
    // First part of the keys put to `rendezvous`.
    std::string name = "gloo";
  };

  // Connects to all other ranks; returns when all have done so. `rendezvous` outlives this.
  // CollectiveError where one does not come in time.
  GlooCommunicator(const Options& options, Rendezvous& rendezvous);
  ~GlooCommunicator() override;

  int rank() const override { return position_; }
  int world_size() const override { return static_cast<int>(members_.size()); }
  void AllReduceSum(at::Tensor& values) override;
  using Communicator::AllGather;
  using Communicator::ReduceScatterSum;
  void ReduceScatterSum(at::Tensor& values, Range within) override;
  void AllGather(at::Tensor& values, Range within) override;
  void AllGatherBytes(const void* mine, size_t size, void* all) override;
  void AllToAll(const void* send, std::span<const int64_t> send_bytes, void* receive,
                std::span<const int64_t> receive_bytes) override;
  void BroadcastBytes(void* data, size_t size, int root) override;
  void Barrier() override;
  using Communicator::Split;
  std::unique_ptr<Communicator> Split(const std::string& name, std::span<const int> members,
                                      int64_t timeout_ms) override;

 private:
  GlooCommunicator(const Options& options, std::vector<int> members, Rendezvous& rendezvous,
                   std::shared_ptr<gloo::transport::Device> device);
  void Connect();

  // One round: sends to one rank while it receives from another; returns when both are done.
  // `on_received` sees the received bytes piece by piece, in order, while later pieces arrive.
  struct Outgoing {
    int to = 0;
    const void* data = nullptr;
    size_t size = 0;
  };
  struct Incoming {
    int from = 0;
    void* data = nullptr;
    size_t size = 0;
    std::function<void(size_t offset, size_t size)> on_received;
  };
  void Exchange(const char* operation, const Outgoing& outgoing, const Incoming& incoming);
  [[noreturn]] void Fail(const char* operation, const std::string& what) const;

  const Options options_;
  // Ranks of the run that this connects, by their numbers here, and which of them this rank is.
  // Errors name ranks of the run.
  const std::vector<int> members_;
  const int position_;
  Rendezvous& rendezvous_;
  std::shared_ptr<gloo::transport::Device> device_;
  std::shared_ptr<gloo::Context> context_;
  uint64_t next_slot_ = 0;  // of Gloo: which message belongs to which operation
  at::Tensor received_;     // fp32, what ReduceScatterSum adds
};

}  // namespace moe::parallel
