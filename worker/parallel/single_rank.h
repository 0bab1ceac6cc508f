// The communicator of a run on one rank: every operation is the identity.
#pragma once

#include <cstring>
#include <memory>
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
  void BroadcastBytes(void* data, size_t size, int root) override {}
  void Barrier() override {}
  std::unique_ptr<Communicator> Split(const std::string& name, int64_t timeout_ms) override {
    return std::make_unique<SingleRankCommunicator>();
  }
};

}  // namespace moe::parallel
