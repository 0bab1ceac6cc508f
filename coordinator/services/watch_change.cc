#include "coordinator/services/watch_change.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>

#include "coordinator/job_state.h"
#include "coordinator/job_table.h"

namespace moe::coordinator {
namespace {

using google::protobuf::internal::WireFormatLite;
using google::protobuf::io::CodedOutputStream;

constexpr uint32_t kMoreTag = WireFormatLite::MakeTag(v1::WatchJobsResponse::kMoreFieldNumber,
                                                      WireFormatLite::WIRETYPE_LENGTH_DELIMITED);

uint8_t* Append(const std::string& bytes, uint8_t* to) {
  return std::copy(bytes.begin(), bytes.end(), to);
}

}  // namespace

WatchChange WatchChangeOf(const v1::WatchJobsResponse& message) {
  return {.job = ParseJobId(message.job().job_id()).value_or(0),
          .revision = message.job().revision(),
          .ended = IsEnded(message.job().state()),
          .bytes = message.SerializeAsString()};
}

size_t SizeInMore(const WatchChange& change) {
  const auto size = static_cast<uint32_t>(change.bytes.size());
  return CodedOutputStream::VarintSize32(kMoreTag) + CodedOutputStream::VarintSize32(size) + size;
}

grpc::Slice JoinChanges(const std::vector<std::shared_ptr<const WatchChange>>& changes) {
  size_t size = changes.front()->bytes.size();
  for (size_t i = 1; i < changes.size(); ++i) size += SizeInMore(*changes[i]);
  grpc::Slice slice(size);
  auto* to = const_cast<uint8_t*>(slice.begin());  // ours alone until it is returned
  to = Append(changes.front()->bytes, to);
  for (size_t i = 1; i < changes.size(); ++i) {
    const std::string& bytes = changes[i]->bytes;
    to = CodedOutputStream::WriteVarint32ToArray(kMoreTag, to);
    to = CodedOutputStream::WriteVarint32ToArray(static_cast<uint32_t>(bytes.size()), to);
    to = Append(bytes, to);
  }
  return slice;
}

}  // namespace moe::coordinator
