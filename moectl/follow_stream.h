// A server stream that outlives restarts of the server.
#pragma once

#include <grpcpp/channel.h>
#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <algorithm>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>

#include "absl/status/status.h"
#include "common/clock.h"
#include "common/status.h"
#include "moectl/coordinator_client.h"
#include "moectl/interrupt.h"

namespace moe::moectl {

// How long the coordinator may be away where the user has not said.
inline constexpr int64_t kDefaultGiveUpMs = 60'000;

struct FollowOptions {
  CoordinatorClient* client;
  const Clock* clock;
  Interrupt* interrupt;
  int64_t give_up_after_ms = kDefaultGiveUpMs;
  // Called when the coordinator is lost, and when it is there again.
  std::function<void()> on_lost = {};
  std::function<void()> on_back = {};
};

// A server that shuts down cancels its streams; one whose client reads too slowly ends the stream
// with RESOURCE_EXHAUSTED and expects another.
inline bool IsWorthAnotherStream(const grpc::Status& status) {
  return status.error_code() == grpc::StatusCode::UNAVAILABLE ||
         status.error_code() == grpc::StatusCode::CANCELLED ||
         status.error_code() == grpc::StatusCode::RESOURCE_EXHAUSTED;
}

// Opens a stream with `open` and hands its messages to `on_message`, both on the calling thread.
// When the connection is lost it opens another: `open` must continue after the last message.
//
// OK when the server ends the stream; CANCELLED when interrupted; UNAVAILABLE when the coordinator
// was away for too long; else what the server said.
template <typename Response>
absl::Status FollowStream(
    const FollowOptions& options,
    const std::function<std::unique_ptr<grpc::ClientReader<Response>>(grpc::ClientContext*)>& open,
    const std::function<void(const Response&)>& on_message) {
  constexpr int64_t kFirstPauseMs = 100;
  constexpr int64_t kLongestPauseMs = 2'000;
  bool lost = false;
  int64_t lost_since_ms = 0;
  int64_t opened_ms = 0;
  int64_t pause_ms = kFirstPauseMs;
  while (true) {
    // WaitForConnected cannot be interrupted, hence in slices.
    const bool connected = options.client->channel().WaitForConnected(
        std::chrono::system_clock::now() + std::chrono::milliseconds(200));
    if (options.interrupt->requested()) return Cancelled("interrupted");
    if (connected) {
      grpc::ClientContext context;
      Interrupt::Callback cancel(options.interrupt, [&context] { context.TryCancel(); });
      opened_ms = options.clock->MonotonicMillis();
      auto reader = open(&context);
      Response response;
      // A connection alone is not enough: a coordinator that starts may still refuse.
      while (reader->Read(&response)) {
        if (lost) {
          lost = false;
          pause_ms = kFirstPauseMs;
          options.on_back();
        }
        on_message(response);
      }
      const grpc::Status status = reader->Finish();
      if (status.ok()) return absl::OkStatus();
      if (options.interrupt->requested()) return Cancelled("interrupted");
      if (!IsWorthAnotherStream(status)) return options.client->ToStatus(status);
    }
    const int64_t now_ms = options.clock->MonotonicMillis();
    if (!lost) {
      lost = true;
      lost_since_ms = now_ms;
      options.on_lost();
    } else if (connected && now_ms - opened_ms > kLongestPauseMs) {
      // It was there for a while and had nothing to say.
      lost_since_ms = now_ms;
    } else if (now_ms - lost_since_ms >= options.give_up_after_ms) {
      return Unavailable(
          "the coordinator at {} has been away for {} s; the jobs do not need it to go on. Watch "
          "again later, or wait longer with --timeout",
          options.client->endpoint(), (now_ms - lost_since_ms) / 1000);
    }
    if (options.interrupt->WaitFor(pause_ms)) return Cancelled("interrupted");
    pause_ms = std::min(2 * pause_ms, kLongestPauseMs);
  }
}

}  // namespace moe::moectl
