// The communicator of ranks that compute on devices: tensors that lie there go from device to
// device, everything else from host to host.
//
// Connections between devices are made when the first tensor needs them, by all ranks together. So
// a communicator that only ever moves bytes, such as the checkpoint writer's, makes none, and may
// be used beside one that moves tensors.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "worker/parallel/communicator.h"

namespace moe::parallel {

class DeviceCommunicator final : public Communicator {
 public:
  // Connects the devices of the ranks of `host`, which all call it.
  using Connect = std::function<std::unique_ptr<Communicator>(Communicator& host)>;

  DeviceCommunicator(std::unique_ptr<Communicator> host, Connect connect);

  int rank() const override { return host_->rank(); }
  int world_size() const override { return host_->world_size(); }
  void AllReduceSum(at::Tensor& values) override;
  using Communicator::AllGather;
  using Communicator::ReduceScatterSum;
  void ReduceScatterSum(at::Tensor& values, Range within) override;
  void AllGather(at::Tensor& values, Range within) override;
  void AllGatherBytes(const void* mine, size_t size, void* all) override;
  // Of memory of the host.
  void AllToAll(const void* send, std::span<const int64_t> send_bytes, void* receive,
                std::span<const int64_t> receive_bytes) override;
  void BroadcastBytes(void* data, size_t size, int root) override;
  void Barrier() override;
  using Communicator::Split;
  std::unique_ptr<Communicator> Split(const std::string& name, std::span<const int> members,
                                      int64_t timeout_ms) override;

 private:
  // The one for `values`, or for bytes; with this one's step.
  Communicator& For(const at::Tensor& values);
  Communicator& Host();
  // Counts what `communicator` has sent since it had sent `before`.
  void Count(const Communicator& communicator, int64_t before);

  const std::unique_ptr<Communicator> host_;
  const Connect connect_;
  std::unique_ptr<Communicator> devices_;  // from the first tensor on
};

}  // namespace moe::parallel
