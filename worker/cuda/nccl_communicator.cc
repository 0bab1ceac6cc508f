#include "worker/cuda/nccl_communicator.h"

#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <stdexcept>
#include <thread>
#include <utility>
#include <vector>

namespace moe::cuda {
namespace {

constexpr cudaStream_t kStream = nullptr;  // the default stream

void CheckCuda(cudaError_t error, const char* what) {
  if (error != cudaSuccess) {
    throw std::runtime_error(fmt::format("{}: {}", what, cudaGetErrorString(error)));
  }
}

// Device memory for the small byte collectives.
class Scratch {
 public:
  explicit Scratch(size_t size) {
    CheckCuda(cudaMalloc(&data_, std::max<size_t>(size, 1)), "cudaMalloc");
  }
  ~Scratch() { cudaFree(data_); }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  char* data() const { return static_cast<char*>(data_); }

 private:
  void* data_ = nullptr;
};

}  // namespace

NcclCommunicator::NcclCommunicator(const ncclUniqueId& id, int device, int rank, int world_size)
    : device_(device),
      rank_(rank),
      world_size_(world_size),
      who_(fmt::format("rank {} of {}", rank, world_size)) {
  CheckCuda(cudaSetDevice(device), "cudaSetDevice");
  Check(ncclCommInitRank(&comm_, world_size, id, rank), "init");
}

NcclCommunicator::NcclCommunicator(ncclComm_t comm, int device, int rank, int world_size,
                                   std::string who, int64_t timeout_ms)
    : comm_(comm),
      device_(device),
      rank_(rank),
      world_size_(world_size),
      who_(std::move(who)),
      timeout_ms_(timeout_ms) {}

NcclCommunicator::~NcclCommunicator() {
  // Abort, not destroy: it returns even where a peer is gone.
  if (comm_ != nullptr) ncclCommAbort(comm_);
}

void NcclCommunicator::Check(ncclResult_t result, const char* operation) const {
  if (result == ncclSuccess || result == ncclInProgress) return;
  throw parallel::CollectiveError(fmt::format("{}, step {}: {} failed: {} ({})", who_, step(),
                                              operation, ncclGetErrorString(result),
                                              comm_ == nullptr ? "" : ncclGetLastError(comm_)));
}

void NcclCommunicator::Finish(const char* operation) const {
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms_);
  for (;;) {
    const cudaError_t error = cudaStreamQuery(kStream);
    if (error == cudaSuccess) return;
    if (error != cudaErrorNotReady) CheckCuda(error, operation);
    ncclResult_t asynchronous = ncclSuccess;
    Check(ncclCommGetAsyncError(comm_, &asynchronous), operation);
    Check(asynchronous, operation);
    if (std::chrono::steady_clock::now() > deadline) {
      throw parallel::CollectiveError(fmt::format("{}, step {}: {} timed out after {} ms", who_,
                                                  step(), operation, timeout_ms_));
    }
    std::this_thread::yield();
  }
}

void NcclCommunicator::AllReduceSum(at::Tensor& values) {
  float* data = values.data_ptr<float>();
  Check(ncclAllReduce(data, data, static_cast<size_t>(values.numel()), ncclFloat, ncclSum, comm_,
                      kStream),
        "all-reduce");
  Finish("all-reduce");
}

// The owned ranges differ in length by the alignment of their boundaries, so both are grouped
// operations per owner instead of ncclReduceScatter and ncclAllGather, which want equal parts.
void NcclCommunicator::ReduceScatterSum(at::Tensor& values, parallel::Range within) {
  float* data = values.data_ptr<float>();
  Check(ncclGroupStart(), "reduce-scatter");
  for (int owner = 0; owner < world_size_; ++owner) {
    const parallel::Range range =
        parallel::Intersection(within, parallel::OwnedRange(values.numel(), owner, world_size_));
    if (range.numel() == 0) continue;
    Check(ncclReduce(data + range.begin, data + range.begin, static_cast<size_t>(range.numel()),
                     ncclFloat, ncclSum, owner, comm_, kStream),
          "reduce-scatter");
  }
  Check(ncclGroupEnd(), "reduce-scatter");
  Finish("reduce-scatter");
}

void NcclCommunicator::AllGather(at::Tensor& values, parallel::Range within) {
  float* data = values.data_ptr<float>();
  Check(ncclGroupStart(), "all-gather");
  for (int owner = 0; owner < world_size_; ++owner) {
    const parallel::Range range =
        parallel::Intersection(within, parallel::OwnedRange(values.numel(), owner, world_size_));
    if (range.numel() == 0) continue;
    Check(ncclBroadcast(data + range.begin, data + range.begin, static_cast<size_t>(range.numel()),
                        ncclFloat, owner, comm_, kStream),
          "all-gather");
  }
  Check(ncclGroupEnd(), "all-gather");
  Finish("all-gather");
}

void NcclCommunicator::AllGatherBytes(const void* mine, size_t size, void* all) {
  const size_t total = size * static_cast<size_t>(world_size_);
  Scratch scratch(total);
  char* own = scratch.data() + static_cast<size_t>(rank_) * size;
  CheckCuda(cudaMemcpyAsync(own, mine, size, cudaMemcpyHostToDevice, kStream), "cudaMemcpy");
  Check(ncclAllGather(own, scratch.data(), size, ncclChar, comm_, kStream), "all-gather");
  Finish("all-gather");
  CheckCuda(cudaMemcpy(all, scratch.data(), total, cudaMemcpyDeviceToHost), "cudaMemcpy");
}

void NcclCommunicator::AllToAll(const void* send, std::span<const int64_t> send_bytes,
                                void* receive, std::span<const int64_t> receive_bytes) {
  const char* from = static_cast<const char*>(send);
  char* to = static_cast<char*>(receive);
  Check(ncclGroupStart(), "all-to-all");
  for (int peer = 0; peer < world_size_; ++peer) {
    const size_t sent = static_cast<size_t>(send_bytes[static_cast<size_t>(peer)]);
    const size_t received = static_cast<size_t>(receive_bytes[static_cast<size_t>(peer)]);
    // Both sides know of an empty message, so both leave it out.
    if (sent > 0) Check(ncclSend(from, sent, ncclChar, peer, comm_, kStream), "all-to-all");
    if (received > 0) Check(ncclRecv(to, received, ncclChar, peer, comm_, kStream), "all-to-all");
    from += sent;
    to += received;
  }
  Check(ncclGroupEnd(), "all-to-all");
  Finish("all-to-all");
}

void NcclCommunicator::BroadcastBytes(void* data, size_t size, int root) {
  Scratch scratch(size);
  if (rank_ == root) {
    CheckCuda(cudaMemcpyAsync(scratch.data(), data, size, cudaMemcpyHostToDevice, kStream),
              "cudaMemcpy");
  }
  Check(ncclBroadcast(scratch.data(), scratch.data(), size, ncclChar, root, comm_, kStream),
        "broadcast");
  Finish("broadcast");
  CheckCuda(cudaMemcpy(data, scratch.data(), size, cudaMemcpyDeviceToHost), "cudaMemcpy");
}

void NcclCommunicator::Barrier() {
  std::vector<char> all(static_cast<size_t>(world_size_));
  const char mine = 1;
  AllGatherBytes(&mine, 1, all.data());
}

std::unique_ptr<parallel::Communicator> NcclCommunicator::Split(const std::string& name,
                                                                std::span<const int> members,
                                                                int64_t timeout_ms) {
  (void)name;  // NCCL derives the new identifier from this communicator
  ncclComm_t split = nullptr;
  Check(ncclCommSplit(comm_, /*color=*/members.front(), /*key=*/rank_, &split, /*config=*/nullptr),
        "split");
  const auto position = std::ranges::find(members, rank_) - members.begin();
  return std::unique_ptr<Communicator>(
      new NcclCommunicator(split, device_, static_cast<int>(position),
                           static_cast<int>(members.size()), who_, timeout_ms));
}

}  // namespace moe::cuda
