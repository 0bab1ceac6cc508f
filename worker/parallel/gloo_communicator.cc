#include "worker/parallel/gloo_communicator.h"

#include <ATen/ops/empty.h>
#include <gloo/rendezvous/context.h>
#include <gloo/rendezvous/store.h>
#include <gloo/transport/tcp/device.h>
#include <gloo/transport/unbound_buffer.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <numeric>
#include <stdexcept>
#include <utility>

#include "common/check.h"
#include "common/status.h"
#include "worker/parallel/single_rank.h"

namespace moe::parallel {
namespace {

// Small enough that adding a piece overlaps with the arrival of the next, large enough that the
// bookkeeping does not show.
constexpr size_t kPieceBytes = 4 << 20;

// Gloo's view of a rendezvous.
class RendezvousStore final : public gloo::rendezvous::Store {
 public:
  RendezvousStore(Rendezvous& rendezvous, std::string prefix, int64_t timeout_ms)
      : rendezvous_(rendezvous), prefix_(std::move(prefix)), timeout_ms_(timeout_ms) {}

  void set(const std::string& key, const std::vector<char>& data) override {
    rendezvous_.Put(prefix_ + key, std::string(data.begin(), data.end()));
  }
  std::vector<char> get(const std::string& key) override {
    const absl::StatusOr<std::string> value = rendezvous_.Get(prefix_ + key, timeout_ms_);
    if (!value.ok()) throw std::runtime_error(ToString(value.status()));
    return {value->begin(), value->end()};
  }
  void wait(const std::vector<std::string>& keys) override {
    for (const std::string& key : keys) get(key);
  }

 private:
  Rendezvous& rendezvous_;
  const std::string prefix_;
  const int64_t timeout_ms_;
};

int Modulo(int value, int modulus) { return (value % modulus + modulus) % modulus; }

std::vector<int> Everyone(int world_size) {
  std::vector<int> ranks(static_cast<size_t>(world_size));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

// Where each rank's bytes begin, and after the last one's the end.
std::vector<int64_t> Begins(std::span<const int64_t> sizes) {
  std::vector<int64_t> begins = {0};
  for (const int64_t size : sizes) begins.push_back(begins.back() + size);
  return begins;
}

}  // namespace

GlooCommunicator::GlooCommunicator(const Options& options, Rendezvous& rendezvous)
    : options_(options),
      members_(Everyone(options.world_size)),
      position_(options.rank),
      rendezvous_(rendezvous) {
  try {
    gloo::transport::tcp::attr attributes(options.host.c_str());
    device_ = gloo::transport::tcp::CreateDevice(attributes);
  } catch (const std::exception& error) {
    Fail("connect", fmt::format("cannot listen on host '{}': {}", options.host, error.what()));
  }
  Connect();
}

GlooCommunicator::GlooCommunicator(const Options& options, std::vector<int> members,
                                   Rendezvous& rendezvous,
                                   std::shared_ptr<gloo::transport::Device> device)
    : options_(options),
      members_(std::move(members)),
      position_(static_cast<int>(std::ranges::find(members_, options.rank) - members_.begin())),
      rendezvous_(rendezvous),
      device_(std::move(device)) {
  MOE_CHECK(position_ < world_size());
  Connect();
}

GlooCommunicator::~GlooCommunicator() = default;

void GlooCommunicator::Connect() {
  RendezvousStore store(rendezvous_, options_.name + "/", options_.connect_timeout_ms);
  auto context = std::make_shared<gloo::rendezvous::Context>(rank(), world_size());
  context->setTimeout(std::chrono::milliseconds(options_.connect_timeout_ms));
  try {
    context->connectFullMesh(store, device_);
  } catch (const std::exception& error) {
    Fail("connect", error.what());
  }
  context_ = std::move(context);
}

void GlooCommunicator::AllReduceSum(at::Tensor& values) {
  ReduceScatterSum(values);
  AllGather(values);
}

void GlooCommunicator::ReduceScatterSum(at::Tensor& values, Range within) {
  const Range own = Intersection(within, OwnedRange(values.numel(), rank(), world_size()));
  float* data = values.mutable_data_ptr<float>();
  if (!received_.defined() || received_.numel() < own.numel()) {
    received_ = at::empty({own.numel()}, at::kFloat);
  }
  for (int round = 1; round < world_size(); ++round) {
    const int to = Modulo(rank() + round, world_size());
    const Range theirs = Intersection(within, OwnedRange(values.numel(), to, world_size()));
    const auto add = [&](size_t offset, size_t size) {
      const int64_t first = static_cast<int64_t>(offset / sizeof(float));
      const int64_t count = static_cast<int64_t>(size / sizeof(float));
      values.narrow(0, own.begin + first, count).add_(received_.narrow(0, first, count));
    };
    Exchange("reduce-scatter",
             {.to = to,
              .data = data + theirs.begin,
              .size = static_cast<size_t>(theirs.numel()) * sizeof(float)},
             {.from = Modulo(rank() - round, world_size()),
              .data = received_.mutable_data_ptr(),
              .size = static_cast<size_t>(own.numel()) * sizeof(float),
              .on_received = add});
  }
}

void GlooCommunicator::AllGather(at::Tensor& values, Range within) {
  const Range own = Intersection(within, OwnedRange(values.numel(), rank(), world_size()));
  float* data = values.mutable_data_ptr<float>();
  for (int round = 1; round < world_size(); ++round) {
    const int from = Modulo(rank() - round, world_size());
    const Range theirs = Intersection(within, OwnedRange(values.numel(), from, world_size()));
    Exchange("all-gather",
             {.to = Modulo(rank() + round, world_size()),
              .data = data + own.begin,
              .size = static_cast<size_t>(own.numel()) * sizeof(float)},
             {.from = from,
              .data = data + theirs.begin,
              .size = static_cast<size_t>(theirs.numel()) * sizeof(float),
              .on_received = nullptr});
  }
}

void GlooCommunicator::AllGatherBytes(const void* mine, size_t size, void* all) {
  char* out = static_cast<char*>(all);
  std::memcpy(out + static_cast<size_t>(rank()) * size, mine, size);
  for (int round = 1; round < world_size(); ++round) {
    const int from = Modulo(rank() - round, world_size());
    Exchange("all-gather of bytes",
             {.to = Modulo(rank() + round, world_size()), .data = mine, .size = size},
             {.from = from,
              .data = out + static_cast<size_t>(from) * size,
              .size = size,
              .on_received = nullptr});
  }
}

void GlooCommunicator::AllToAll(const void* send, std::span<const int64_t> send_bytes,
                                void* receive, std::span<const int64_t> receive_bytes) {
  MOE_CHECK(std::ssize(send_bytes) == world_size() && std::ssize(receive_bytes) == world_size());
  const std::vector<int64_t> send_begins = Begins(send_bytes),
                             receive_begins = Begins(receive_bytes);
  const char* from_here = static_cast<const char*>(send);
  char* to_here = static_cast<char*>(receive);
  const size_t own = static_cast<size_t>(rank());
  MOE_CHECK(send_bytes[own] == receive_bytes[own]);
  if (send_bytes[own] > 0) {
    std::memcpy(to_here + receive_begins[own], from_here + send_begins[own],
                static_cast<size_t>(send_bytes[own]));
  }
  for (int round = 1; round < world_size(); ++round) {
    const int to = Modulo(rank() + round, world_size());
    const int from = Modulo(rank() - round, world_size());
    const size_t t = static_cast<size_t>(to), f = static_cast<size_t>(from);
    Exchange(
        "all-to-all",
        {.to = to, .data = from_here + send_begins[t], .size = static_cast<size_t>(send_bytes[t])},
        {.from = from,
         .data = to_here + receive_begins[f],
         .size = static_cast<size_t>(receive_bytes[f]),
         .on_received = nullptr});
  }
}

void GlooCommunicator::BroadcastBytes(void* data, size_t size, int root) {
  for (int other = 0; other < world_size(); ++other) {
    if (other == root) continue;
    if (rank() == root) {
      Exchange("broadcast", {.to = other, .data = data, .size = size}, {});
    } else if (rank() == other) {
      Exchange("broadcast", {}, {.from = root, .data = data, .size = size, .on_received = nullptr});
    } else {
      ++next_slot_;  // the same numbers on every rank
    }
  }
}

void GlooCommunicator::Barrier() {
  const char here = 1;
  std::vector<char> all(static_cast<size_t>(world_size()));
  AllGatherBytes(&here, sizeof(here), all.data());
}

std::unique_ptr<Communicator> GlooCommunicator::Split(const std::string& name,
                                                      std::span<const int> members,
                                                      int64_t timeout_ms) {
  if (members.size() == 1) return std::make_unique<SingleRankCommunicator>();
  std::vector<int> of_run;
  for (const int member : members) of_run.push_back(members_[static_cast<size_t>(member)]);
  Options options = options_;
  // Groups of one name have keys of their own.
  options.name += fmt::format("/{}.{}", name, of_run.front());
  options.timeout_ms = timeout_ms;
  return std::unique_ptr<Communicator>(
      new GlooCommunicator(options, std::move(of_run), rendezvous_, device_));
}

void GlooCommunicator::Exchange(const char* operation, const Outgoing& outgoing,
                                const Incoming& incoming) {
  using gloo::transport::UnboundBuffer;
  const uint64_t slot = next_slot_++;
  CountSent(outgoing.size);
  const auto pieces = [](size_t size) { return (size + kPieceBytes - 1) / kPieceBytes; };

  std::vector<std::unique_ptr<UnboundBuffer>> receives, sends;
  try {
    for (size_t i = 0; i < pieces(incoming.size); ++i) {
      const size_t offset = i * kPieceBytes;
      receives.push_back(
          context_->createUnboundBuffer(static_cast<char*>(incoming.data) + offset,
                                        std::min(kPieceBytes, incoming.size - offset)));
      receives.back()->recv(incoming.from, slot);
    }
    for (size_t i = 0; i < pieces(outgoing.size); ++i) {
      const size_t offset = i * kPieceBytes;
      // Gloo takes a mutable pointer for sending as well; it only reads.
      char* data = const_cast<char*>(static_cast<const char*>(outgoing.data)) + offset;
      sends.push_back(
          context_->createUnboundBuffer(data, std::min(kPieceBytes, outgoing.size - offset)));
      sends.back()->send(outgoing.to, slot);
    }
  } catch (const std::exception& error) {
    Fail(operation, error.what());
  }

  const std::chrono::milliseconds timeout(options_.timeout_ms);
  try {
    for (size_t i = 0; i < receives.size(); ++i) {
      receives[i]->waitRecv(timeout);
      if (incoming.on_received) incoming.on_received(i * kPieceBytes, receives[i]->size);
    }
  } catch (const std::exception& error) {
    Fail(operation, fmt::format("waiting for rank {}: {}",
                                members_[static_cast<size_t>(incoming.from)], error.what()));
  }
  try {
    for (const std::unique_ptr<UnboundBuffer>& send : sends) send->waitSend(timeout);
  } catch (const std::exception& error) {
    Fail(operation, fmt::format("sending to rank {}: {}",
                                members_[static_cast<size_t>(outgoing.to)], error.what()));
  }
}

void GlooCommunicator::Fail(const char* operation, const std::string& what) const {
  throw CollectiveError(fmt::format("rank {} of {}, step {}: {} failed: {}", options_.rank,
                                    options_.world_size, step(), operation, what));
}

}  // namespace moe::parallel
