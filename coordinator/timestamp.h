// Milliseconds since the Unix epoch as protobuf's Timestamp.
#pragma once

#include <google/protobuf/timestamp.pb.h>

#include <cstdint>

namespace moe::coordinator {

inline google::protobuf::Timestamp ToTimestamp(int64_t unix_millis) {
  google::protobuf::Timestamp time;
  time.set_seconds(unix_millis / 1000);
  time.set_nanos(static_cast<int32_t>(unix_millis % 1000) * 1'000'000);
  return time;
}

inline int64_t ToUnixMillis(const google::protobuf::Timestamp& time) {
  return time.seconds() * 1000 + time.nanos() / 1'000'000;
}

}  // namespace moe::coordinator
