#pragma once

#include "moe/v1/worker_service.pb.h"

namespace moe::worker {

// Where messages to the coordinator go.
class SessionSink {
 public:
  virtual ~SessionSink() = default;
  // Takes the message; never blocks. Once the session has ended it is dropped: whatever matters is
  // sent again in the next. Thread-safe.
  virtual void Send(v1::SessionRequest message) = 0;
};

}  // namespace moe::worker
