#include "worker/cuda/nccl_communicator.h"

#include <c10/cuda/CUDAStream.h>
#include <cuda_runtime_api.h>
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>
#include <vector>

#include "worker/cuda/check.h"

namespace moe::cuda {
namespace {

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
  MakeStream();
  Check(ncclCommInitRank(&comm_, world_size, id, rank), "init");
}

NcclCommunicator::NcclCommunicator(ncclComm_t comm, int device, int rank, int world_size,
                                   std::string who, int64_t timeout_ms)
    : comm_(comm),
      device_(device),
      rank_(rank),
      world_size_(world_size),
      who_(std::move(who)),
      timeout_ms_(timeout_ms) {
  MakeStream();
}

NcclCommunicator::~NcclCommunicator() {
  // Abort, not destroy: it returns even where a peer is gone.
  if (comm_ != nullptr) ncclCommAbort(comm_);
  if (computed_ != nullptr) cudaEventDestroy(computed_);
  if (stream_ != nullptr) cudaStreamDestroy(stream_);
}

void NcclCommunicator::MakeStream() {
  CheckCuda(cudaSetDevice(device_), "cudaSetDevice");
  CheckCuda(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "cudaStreamCreate");
  CheckCuda(cudaEventCreateWithFlags(&computed_, cudaEventDisableTiming), "cudaEventCreate");
}

void NcclCommunicator::FollowCompute() {
  CheckCuda(cudaSetDevice(device_), "cudaSetDevice");
  const auto device = static_cast<c10::DeviceIndex>(device_);
  CheckCuda(cudaEventRecord(computed_, c10::cuda::getCurrentCUDAStream(device).stream()),
            "cudaEventRecord");
  CheckCuda(cudaStreamWaitEvent(stream_, computed_, 0), "cudaStreamWaitEvent");
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
    const cudaError_t error = cudaStreamQuery(stream_);
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
  FollowCompute();
  float* data = values.data_ptr<float>();
  Check(ncclAllReduce(data, data, static_cast<size_t>(values.numel()), ncclFloat, ncclSum, comm_,
                      stream_),
        "all-reduce");
  Finish("all-reduce");
}

// The owned ranges differ in length by the alignment of their boundaries, so both are grouped
// operations per owner instead of ncclReduceScatter and ncclAllGather, which want equal parts.
void NcclCommunicator::ReduceScatterSum(at::Tensor& values, parallel::Range within) {
  FollowCompute();
  float* data = values.data_ptr<float>();
  Check(ncclGroupStart(), "reduce-scatter");
  for (int owner = 0; owner < world_size_; ++owner) {
    const parallel::Range range =
        parallel::Intersection(within, parallel::OwnedRange(values.numel(), owner, world_size_));
    if (range.numel() == 0) continue;
    if (owner != rank_) CountSent(static_cast<size_t>(range.numel()) * sizeof(float));
    Check(ncclReduce(data + range.begin, data + range.begin, static_cast<size_t>(range.numel()),
                     ncclFloat, ncclSum, owner, comm_, stream_),
          "reduce-scatter");
  }
  Check(ncclGroupEnd(), "reduce-scatter");
  Finish("reduce-scatter");
}

void NcclCommunicator::AllGather(at::Tensor& values, parallel::Range within) {
  FollowCompute();
  float* data = values.data_ptr<float>();
  Check(ncclGroupStart(), "all-gather");
  for (int owner = 0; owner < world_size_; ++owner) {
    const parallel::Range range =
        parallel::Intersection(within, parallel::OwnedRange(values.numel(), owner, world_size_));
    if (range.numel() == 0) continue;
    if (owner == rank_) {
      CountSent(static_cast<size_t>(range.numel() * (world_size_ - 1)) * sizeof(float));
    }
    Check(ncclBroadcast(data + range.begin, data + range.begin, static_cast<size_t>(range.numel()),
                        ncclFloat, owner, comm_, stream_),
          "all-gather");
  }
  Check(ncclGroupEnd(), "all-gather");
  Finish("all-gather");
}

void NcclCommunicator::AllGatherBytes(const void* mine, size_t size, void* all) {
  FollowCompute();
  const size_t total = size * static_cast<size_t>(world_size_);
  Scratch scratch(total);
  char* own = scratch.data() + static_cast<size_t>(rank_) * size;
  CheckCuda(cudaMemcpyAsync(own, mine, size, cudaMemcpyHostToDevice, stream_), "cudaMemcpy");
  Check(ncclAllGather(own, scratch.data(), size, ncclChar, comm_, stream_), "all-gather");
  Finish("all-gather");
  CheckCuda(cudaMemcpy(all, scratch.data(), total, cudaMemcpyDeviceToHost), "cudaMemcpy");
}

void NcclCommunicator::AllToAll(const void* send, std::span<const int64_t> send_bytes,
                                void* receive, std::span<const int64_t> receive_bytes) {
  FollowCompute();
  const char* from = static_cast<const char*>(send);
  char* to = static_cast<char*>(receive);
  Check(ncclGroupStart(), "all-to-all");
  for (int peer = 0; peer < world_size_; ++peer) {
    const size_t sent = static_cast<size_t>(send_bytes[static_cast<size_t>(peer)]);
    const size_t received = static_cast<size_t>(receive_bytes[static_cast<size_t>(peer)]);
    // Both sides know of an empty message, so both leave it out.
    if (sent > 0) Check(ncclSend(from, sent, ncclChar, peer, comm_, stream_), "all-to-all");
    if (received > 0) Check(ncclRecv(to, received, ncclChar, peer, comm_, stream_), "all-to-all");
    from += sent;
    to += received;
  }
  Check(ncclGroupEnd(), "all-to-all");
  Finish("all-to-all");
}

void NcclCommunicator::BroadcastBytes(void* data, size_t size, int root) {
  FollowCompute();
  Scratch scratch(size);
  if (rank_ == root) {
    CheckCuda(cudaMemcpyAsync(scratch.data(), data, size, cudaMemcpyHostToDevice, stream_),
              "cudaMemcpy");
  }
  Check(ncclBroadcast(scratch.data(), scratch.data(), size, ncclChar, root, comm_, stream_),
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
