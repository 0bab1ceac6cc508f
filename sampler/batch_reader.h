// Reads the documents of a domain in batches, one ahead of the one that is worked on.
#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <future>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sampler/documents.h"

namespace moe::sampler {

struct DocumentBatch {
  std::vector<std::string> texts;  // empty at the end
  DocumentReader::Cursor after;    // where the reader is behind them
};

// Batches depend on the files and on where reading began, never on timing. Not thread-safe.
class BatchReader {
 public:
  // Reads from the start, or from `cursor`, which was behind an earlier batch of the same size.
  // `stop_requested` is asked on the caller's thread.
  static absl::StatusOr<BatchReader> Open(const std::vector<std::string>& paths,
                                          const ReadOptions& options, size_t batch_bytes,
                                          const DocumentReader::Cursor& cursor,
                                          std::function<bool()> stop_requested);
  ~BatchReader();
  BatchReader(BatchReader&&) = default;

  // At least `batch_bytes` of text, or what is left. CANCELLED where a stop was requested.
  absl::StatusOr<DocumentBatch> Next();

 private:
  struct Shared {
    DocumentReader reader;
    size_t batch_bytes;
    std::atomic<bool> stop{false};
  };
  BatchReader(std::unique_ptr<Shared> shared, std::function<bool()> stop_requested);
  void ReadAhead();

  std::unique_ptr<Shared> shared_;  // for the thread that reads, while there is one
  std::function<bool()> stop_requested_;
  std::future<absl::StatusOr<DocumentBatch>> ahead_;
};

}  // namespace moe::sampler
