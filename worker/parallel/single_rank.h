// The communicator of a run on one rank: every operation is the identity.
#pragma once

#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>

#include "worker/parallel/communicator.h"

namespace moe::parallel {

class SingleRankCommunicator final : public Communicator {
 public:
  int rank() const override { return 0; }
  int world_size() const override { return 1; }
  void AllReduceSum(at::Tensor& values) override {}
  using Communicator::AllGather;
  using Communicator::ReduceScatterSum;
  void ReduceScatterSum(at::Tensor& values, Range within) override {}
  void AllGather(at::Tensor& values, Range within) override {}
  void AllGatherBytes(const void* mine, size_t size, void* all) override {
    std::memcpy(all, mine, size);
  }
  void AllToAll(const void* send, std::span<const int64_t> send_bytes, void* receive,
                std::span<const int64_t> receive_bytes) override {
    if (send_bytes[0] > 0) std::memcpy(receive, send, static_cast<size_t>(send_bytes[0]));
  }
  void BroadcastBytes(void* data, size_t size, int root) override {}
  void Barrier() override {}
  using Communicator::Split;
  std::unique_ptr<Communicator> Split(const std::string& name, std::span<const int> members,
                                      int64_t timeout_ms) override {
    return std::make_unique<SingleRankCommunicator>();
  }
};

}  // namespace moe::parallel
