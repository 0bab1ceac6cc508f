// The Communicator over NCCL: tensors are contiguous fp32 on one CUDA device.
//
// Collectives run on a stream of their own, after what had been enqueued on LibTorch's when they
// were asked for, and have ended when they return: what is enqueued then comes after them.
#pragma once

#include <cuda_runtime_api.h>
#include <nccl.h>

#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "worker/parallel/communicator.h"

namespace moe::cuda {

class NcclCommunicator final : public parallel::Communicator {
 public:
  NcclCommunicator(const ncclUniqueId& id, int device, int rank, int world_size);
  ~NcclCommunicator() override;

  int rank() const override { return rank_; }
  int world_size() const override { return world_size_; }
  void AllReduceSum(at::Tensor& values) override;
  using Communicator::AllGather;
  using Communicator::ReduceScatterSum;
  void ReduceScatterSum(at::Tensor& values, parallel::Range within) override;
  void AllGather(at::Tensor& values, parallel::Range within) override;
  void AllGatherBytes(const void* mine, size_t size, void* all) override;
  void AllToAll(const void* send, std::span<const int64_t> send_bytes, void* receive,
                std::span<const int64_t> receive_bytes) override;
  void BroadcastBytes(void* data, size_t size, int root) override;
  void Barrier() override;
  using Communicator::Split;
  std::unique_ptr<Communicator> Split(const std::string& name, std::span<const int> members,
                                      int64_t timeout_ms) override;

 private:
  NcclCommunicator(ncclComm_t comm, int device, int rank, int world_size, std::string who,
                   int64_t timeout_ms);
  // Throws CollectiveError naming rank, step and operation; waits for the stream, with the timeout.
  void Check(ncclResult_t result, const char* operation) const;
  void Finish(const char* operation) const;
  void MakeStream();
  // The stream goes on when LibTorch's has come to where it is now. Also makes the device current:
  // a new thread's is another one.
  void FollowCompute();

  ncclComm_t comm_ = nullptr;
  cudaStream_t stream_ = nullptr;
  cudaEvent_t computed_ = nullptr;
  int device_;
  int rank_;
  int world_size_;
  std::string who_;  // "rank 3 of 4", as the run numbers them
  int64_t timeout_ms_ = 600'000;
};

}  // namespace moe::cuda
