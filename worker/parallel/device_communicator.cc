#include "worker/parallel/device_communicator.h"

#include <utility>

namespace moe::parallel {

DeviceCommunicator::DeviceCommunicator(std::unique_ptr<Communicator> host, Connect connect)
    : host_(std::move(host)), connect_(std::move(connect)) {}

Communicator& DeviceCommunicator::Host() {
  host_->set_step(step());
  return *host_;
}

Communicator& DeviceCommunicator::For(const at::Tensor& values) {
  if (values.is_cpu()) return Host();
  if (devices_ == nullptr) devices_ = connect_(Host());
  devices_->set_step(step());
  return *devices_;
}

void DeviceCommunicator::Count(const Communicator& communicator, int64_t before) {
  CountSent(static_cast<size_t>(communicator.sent_bytes() - before));
}

void DeviceCommunicator::AllReduceSum(at::Tensor& values) {
  Communicator& communicator = For(values);
  const int64_t before = communicator.sent_bytes();
  communicator.AllReduceSum(values);
  Count(communicator, before);
}

void DeviceCommunicator::ReduceScatterSum(at::Tensor& values, Range within) {
  Communicator& communicator = For(values);
  const int64_t before = communicator.sent_bytes();
  communicator.ReduceScatterSum(values, within);
  Count(communicator, before);
}

void DeviceCommunicator::AllGather(at::Tensor& values, Range within) {
  Communicator& communicator = For(values);
  const int64_t before = communicator.sent_bytes();
  communicator.AllGather(values, within);
  Count(communicator, before);
}

void DeviceCommunicator::AllGatherBytes(const void* mine, size_t size, void* all) {
  const int64_t before = host_->sent_bytes();
  Host().AllGatherBytes(mine, size, all);
  Count(*host_, before);
}

void DeviceCommunicator::AllToAll(const void* send, std::span<const int64_t> send_bytes,
                                  void* receive, std::span<const int64_t> receive_bytes) {
  const int64_t before = host_->sent_bytes();
  Host().AllToAll(send, send_bytes, receive, receive_bytes);
  Count(*host_, before);
}

void DeviceCommunicator::BroadcastBytes(void* data, size_t size, int root) {
  const int64_t before = host_->sent_bytes();
  Host().BroadcastBytes(data, size, root);
  Count(*host_, before);
}

void DeviceCommunicator::Barrier() { Host().Barrier(); }

std::unique_ptr<Communicator> DeviceCommunicator::Split(const std::string& name,
                                                        std::span<const int> members,
                                                        int64_t timeout_ms) {
  return std::make_unique<DeviceCommunicator>(host_->Split(name, members, timeout_ms), connect_);
}

}  // namespace moe::parallel
