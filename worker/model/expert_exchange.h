// The way of rows to the experts of other ranks, and back.
//
// The N experts of a layer are shared out, in order and in equal parts, among the E ranks of a
// group. A row (dispatch.h) of a rank's tokens goes to the rank that holds its expert, which
// computes the expert's output from what came from all ranks and sends it back. Every rank of the
// group makes the same calls, with as many rows as it has, 0 included.
//
// R rows of this rank's tokens, A rows that arrived for this rank's experts.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include "worker/kernels/buffer.h"
#include "worker/kernels/dispatch.h"
#include "worker/parallel/communicator.h"

namespace moe::model {

// Which rows go where, of one layer, from its forward to its backward.
struct ExpertRoute {
  // Of each rank of the group: rows that go to it, rows that come from it.
  std::vector<int64_t> sent, arrived;
  // The rows that arrived, as tokens that go to one of this rank's experts each: in the order of
  // the ranks that they came from, of each rank as in its dispatch.
  kernels::Dispatch dispatch;
};

class ExpertExchange {
 public:
  // `group` has E ranks; E divides `num_experts`.
  ExpertExchange(std::unique_ptr<parallel::Communicator> group, int64_t num_experts);

  // Tells the others how many rows of `dispatch`, over all N experts, are theirs.
  void Plan(const kernels::Dispatch& dispatch, ExpertRoute& route);

  // Sends the token of each row: tokens_Td [T, d] gathered by `dispatch`; arrived_Ad [A, d] is in
  // the order of route.dispatch's tokens. CollectiveError, as from the others.
  template <typename T>
  void SendTokens(const ExpertRoute& route, const kernels::Dispatch& dispatch, const T* tokens_Td,
                  int64_t d, T* arrived_Ad);
  // Sends a number for each row, in the order of `dispatch`; arrived_A is in the order of
  // route.dispatch's rows.
  void SendNumbers(const ExpertRoute& route, const float* rows_R, float* arrived_A);
  // Sends what was computed from rows back: computed_Ad is in the order of route.dispatch's rows,
  // rows_Rd in that of the dispatch that the route was planned for.
  template <typename T>
  void Return(const ExpertRoute& route, const T* computed_Ad, int64_t d, T* rows_Rd);

  // Is told before and after each wait for the other ranks, from here on; may be empty.
  void set_on_wait(std::function<void(bool waits)> on_wait) { on_wait_ = std::move(on_wait); }
  // In operations with the others, since the start.
  double seconds() const { return seconds_; }

 private:
  // AllToAll of rows of `row_bytes`.
  void Move(const void* from, const std::vector<int64_t>& sent, void* to,
            const std::vector<int64_t>& arrived, int64_t row_bytes);

  const std::unique_ptr<parallel::Communicator> group_;
  const int64_t experts_per_rank_;
  kernels::Buffer<std::byte> wire_;  // rows in the order in which they are sent or arrive
  std::function<void(bool)> on_wait_;
  double seconds_ = 0;
};

}  // namespace moe::model
