#include "sampler/batch_reader.h"

#include <chrono>

#include "common/status.h"

namespace moe::sampler {
namespace {

// How late a stop request is seen while a batch is read.
constexpr std::chrono::milliseconds kBetweenQuestions(50);

absl::StatusOr<DocumentBatch> ReadBatch(DocumentReader& reader, size_t batch_bytes) {
  DocumentBatch batch;
  for (size_t bytes = 0; bytes < batch_bytes;) {
    MOE_ASSIGN_OR_RETURN(std::optional<std::string> text, reader.Next());
    if (!text.has_value()) break;
    bytes += text->size();
    batch.texts.push_back(*std::move(text));
  }
  batch.after = reader.cursor();
  return batch;
}

}  // namespace

absl::StatusOr<BatchReader> BatchReader::Open(const std::vector<std::string>& paths,
                                              const ReadOptions& options, size_t batch_bytes,
                                              const DocumentReader::Cursor& cursor,
                                              std::function<bool()> stop_requested) {
  MOE_ASSIGN_OR_RETURN(DocumentReader reader, DocumentReader::Open(paths, options));
  MOE_RETURN_IF_ERROR(reader.Seek(cursor));
  std::unique_ptr<Shared> shared(
      new Shared{.reader = std::move(reader), .batch_bytes = batch_bytes});
  return BatchReader(std::move(shared), std::move(stop_requested));
}

BatchReader::BatchReader(std::unique_ptr<Shared> shared, std::function<bool()> stop_requested)
    : shared_(std::move(shared)), stop_requested_(std::move(stop_requested)) {
  shared_->reader.set_stop_requested([stop = &shared_->stop] { return stop->load(); });
  ReadAhead();
}

BatchReader::~BatchReader() {
  if (shared_ == nullptr) return;  // moved from
  shared_->stop = true;
  if (ahead_.valid()) ahead_.wait();
}

void BatchReader::ReadAhead() {
  ahead_ = std::async(std::launch::async, [shared = shared_.get()] {
    return ReadBatch(shared->reader, shared->batch_bytes);
  });
}

absl::StatusOr<DocumentBatch> BatchReader::Next() {
  while (ahead_.wait_for(kBetweenQuestions) != std::future_status::ready) {
    if (stop_requested_()) shared_->stop = true;
  }
  absl::StatusOr<DocumentBatch> batch = ahead_.get();
  if (batch.ok() && !batch->texts.empty()) ReadAhead();
  return batch;
}

}  // namespace moe::sampler
