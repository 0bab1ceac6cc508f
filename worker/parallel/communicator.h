// Collective operations among the ranks of an attempt.
//
// Every rank calls the same operations in the same order. Tensors are one-dimensional, contiguous
// fp32 on the CPU; bytes are opaque and, except in AllToAll, of the same size on every rank.
// Reductions add in an order that is fixed for a given number of ranks, so equal inputs give equal
// bits.
//
// Errors are exceptions of type CollectiveError; after one the communicator is of no more use.
// Not thread-safe: a second thread takes a communicator of its own from Split().
#pragma once

#include <ATen/core/Tensor.h>

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>

namespace moe::parallel {

// "rank 1 of 2, step 40: reduce-scatter failed: timed out after 30000 ms waiting for rank 0".
class CollectiveError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// Elements [begin, end) of a flat arena.
struct Range {
  int64_t begin = 0;
  int64_t end = 0;
  int64_t numel() const { return end - begin; }
  bool operator==(const Range&) const = default;
};

// What `rank` owns of an arena of `numel` elements: contiguous, in rank order, together the whole.
// Boundaries are multiples of 64 elements (256 bytes); the last ranks may own nothing.
Range OwnedRange(int64_t numel, int rank, int world_size);

// What both hold; empty, with begin == end, where that is nothing.
Range Intersection(Range a, Range b);

class Communicator {
 public:
  virtual ~Communicator() = default;

  virtual int rank() const = 0;
  virtual int world_size() const = 0;

  // values[i] becomes the sum over ranks.
  virtual void AllReduceSum(at::Tensor& values) = 0;
  // The elements of OwnedRange(values.numel(), rank(), world_size()) become the sum over ranks;
  // the others keep this rank's values. Each rank sends what others own and receives as much for
  // each of them as it owns: over the whole tensor, (W - 1) / W of it. Only elements in `within`
  // take part.
  virtual void ReduceScatterSum(at::Tensor& values, Range within) = 0;
  void ReduceScatterSum(at::Tensor& values) { ReduceScatterSum(values, {0, values.numel()}); }
  // Every rank's OwnedRange is copied to the other ranks, as far as it is in `within`. The inverse
  // of ReduceScatterSum.
  virtual void AllGather(at::Tensor& values, Range within) = 0;
  void AllGather(at::Tensor& values) { AllGather(values, {0, values.numel()}); }
  // `all` gets the `size` bytes at `mine` of every rank, in rank order.
  virtual void AllGatherBytes(const void* mine, size_t size, void* all) = 0;
  // Rank r gets the next send_bytes[r] bytes at `send`, in rank order; receive_bytes[r] come from
  // it, which is what it sends, and lie at `receive` in rank order. Both are where this
  // communicator's tensors are and do not overlap; any of the sizes may be 0.
  virtual void AllToAll(const void* send, std::span<const int64_t> send_bytes, void* receive,
                        std::span<const int64_t> receive_bytes) = 0;
  // The bytes at `data` of rank `root` go to everyone.
  virtual void BroadcastBytes(void* data, size_t size, int root) = 0;
  // Returns when every rank has called it.
  virtual void Barrier() = 0;

  // A communicator of `members`, with connections of its own: ranks of this one, ascending, which
  // are numbered anew in that order. Every rank calls it for the group that it is in; groups share
  // no rank. `name` is the same on every rank and new in this communicator. `timeout_ms` limits one
  // operation, waiting for the other ranks included.
  virtual std::unique_ptr<Communicator> Split(const std::string& name, std::span<const int> members,
                                              int64_t timeout_ms) = 0;
  // Of all ranks.
  std::unique_ptr<Communicator> Split(const std::string& name, int64_t timeout_ms);

  // Named in errors from here on.
  void set_step(int64_t step) { step_ = step; }
  int64_t step() const { return step_; }

  // That this rank has sent to others since the start, as payload; any thread may ask.
  int64_t sent_bytes() const { return sent_bytes_; }

 protected:
  void CountSent(size_t bytes) { sent_bytes_ += static_cast<int64_t>(bytes); }

 private:
  int64_t step_ = 0;
  std::atomic<int64_t> sent_bytes_{0};
};

}  // namespace moe::parallel
