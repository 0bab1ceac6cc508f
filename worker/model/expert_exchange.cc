#include "worker/model/expert_exchange.h"

#include <c10/util/BFloat16.h>

#include <chrono>
#include <cstring>
#include <numeric>

#include "common/check.h"
#include "worker/kernels/parallel.h"

namespace moe::model {
namespace {

constexpr int64_t kMinRowsPerThread = 32;

// to[i, :] = from[index[i], :]
template <typename T>
void GatherBy(const std::vector<int32_t>& index, const T* from, int64_t d, T* to) {
  kernels::ParallelFor(std::ssize(index), kMinRowsPerThread, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i) {
      std::memcpy(to + i * d, from + index[i] * d, d * sizeof(T));
    }
  });
}

int64_t Sum(const std::vector<int64_t>& values) {
  return std::accumulate(values.begin(), values.end(), int64_t{0});
}

}  // namespace

ExpertExchange::ExpertExchange(std::unique_ptr<parallel::Communicator> group, int64_t num_experts)
    : group_(std::move(group)), experts_per_rank_(num_experts / group_->world_size()) {
  MOE_CHECK(num_experts % group_->world_size() == 0);
}

void ExpertExchange::Plan(const kernels::Dispatch& dispatch, ExpertRoute& route) {
  const int64_t ranks = group_->world_size(), experts = ranks * experts_per_rank_;
  MOE_CHECK(std::ssize(dispatch.first_row) == experts + 1);
  // By rank, and by expert of that rank.
  std::vector<int64_t> mine(static_cast<size_t>(experts)), theirs(mine.size());
  for (int64_t e = 0; e < experts; ++e) {
    mine[e] = dispatch.first_row[e + 1] - dispatch.first_row[e];
  }
  const std::vector<int64_t> each(static_cast<size_t>(ranks), experts_per_rank_);
  Move(mine.data(), each, theirs.data(), each, sizeof(int64_t));

  route.sent.assign(static_cast<size_t>(ranks), 0);
  route.arrived.assign(static_cast<size_t>(ranks), 0);
  std::vector<int32_t> expert_of_arrived;
  for (int64_t i = 0; i < experts; ++i) {
    route.sent[i / experts_per_rank_] += mine[i];
    route.arrived[i / experts_per_rank_] += theirs[i];
    expert_of_arrived.insert(expert_of_arrived.end(), static_cast<size_t>(theirs[i]),
                             static_cast<int32_t>(i % experts_per_rank_));
  }
  route.dispatch.Build(expert_of_arrived.data(), std::ssize(expert_of_arrived),
                       /*slots_per_token=*/1, experts_per_rank_);
}

template <typename T>
void ExpertExchange::SendTokens(const ExpertRoute& route, const kernels::Dispatch& dispatch,
                                const T* tokens_Td, int64_t d, T* arrived_Ad) {
  const int64_t row_bytes = d * static_cast<int64_t>(sizeof(T));
  T* wire = reinterpret_cast<T*>(wire_.Reserve(dispatch.rows() * row_bytes));
  kernels::GatherRows(dispatch, 0, dispatch.rows(),
                      kernels::Matrix<const T>(tokens_Td, dispatch.tokens, d), wire);
  Move(wire, route.sent, arrived_Ad, route.arrived, row_bytes);
}

void ExpertExchange::SendNumbers(const ExpertRoute& route, const float* rows_R, float* arrived_A) {
  float* wire = reinterpret_cast<float*>(wire_.Reserve(Sum(route.arrived) * sizeof(float)));
  Move(rows_R, route.sent, wire, route.arrived, sizeof(float));
  GatherBy(route.dispatch.token_of_row, wire, 1, arrived_A);
}

template <typename T>
void ExpertExchange::Return(const ExpertRoute& route, const T* computed_Ad, int64_t d, T* rows_Rd) {
  const int64_t row_bytes = d * static_cast<int64_t>(sizeof(T));
  T* wire = reinterpret_cast<T*>(wire_.Reserve(route.dispatch.rows() * row_bytes));
  GatherBy(route.dispatch.row_of_slot, computed_Ad, d, wire);
  Move(wire, route.arrived, rows_Rd, route.sent, row_bytes);
}

void ExpertExchange::Move(const void* from, const std::vector<int64_t>& sent, void* to,
                          const std::vector<int64_t>& arrived, int64_t row_bytes) {
  std::vector<int64_t> sent_bytes, arrived_bytes;
  for (const int64_t rows : sent) sent_bytes.push_back(rows * row_bytes);
  for (const int64_t rows : arrived) arrived_bytes.push_back(rows * row_bytes);
  const auto start = std::chrono::steady_clock::now();
  if (on_wait_) on_wait_(true);
  group_->AllToAll(from, sent_bytes, to, arrived_bytes);
  if (on_wait_) on_wait_(false);
  seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

#define MOE_INSTANTIATE(T)                                                                         \
  template void ExpertExchange::SendTokens(const ExpertRoute&, const kernels::Dispatch&, const T*, \
                                           int64_t, T*);                                           \
  template void ExpertExchange::Return(const ExpertRoute&, const T*, int64_t, T*)
MOE_INSTANTIATE(float);
MOE_INSTANTIATE(c10::BFloat16);
#undef MOE_INSTANTIATE

}  // namespace moe::model
