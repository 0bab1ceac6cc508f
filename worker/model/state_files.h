// The state files of a checkpoint (docs/formats/checkpoint.md): each holds ranges of the flat
// arenas with all experts (parameters.h), all together the whole, whatever the ranks that wrote
// them.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "storage/artefacts/safetensors.h"
#include "worker/model/parameters.h"

namespace moe::model {

// Tensors of a state file, in file order.
inline constexpr const char* kStateTensors[] = {"parameters", "exp_avg", "exp_avg_sq"};
// One more, last, where the run keeps a moving average of the parameters.
inline constexpr char kAverageTensor[] = "average";

// Which of a checkpoint's two sets of weights to read.
enum class WhichWeights { kLatest, kAverage };

std::string StateFileName(int rank, int world_size);  // "state-00000-of-00002.safetensors"
bool IsStateFileName(const std::string& name);

// Begins the state file of `ranges` of arenas of `arena_numel` elements; the caller appends the
// tensors of StateTensors in their order, each with its ranges one after the other.
enum class KeepAverage { kNever, kAlways };
std::vector<std::string> StateTensors(KeepAverage keep_average);
absl::StatusOr<std::unique_ptr<artefacts::SafetensorsWriter>> CreateStateFile(
    const std::string& path, const std::vector<ParameterLayout::Range>& ranges, int64_t arena_numel,
    KeepAverage keep_average = KeepAverage::kNever);

// The state files of one checkpoint, mapped. Does not verify checksums: the manifest has them.
class StateFiles {
 public:
  // `names` are the files in `folder` to read. INVALID_ARGUMENT where a file is of arenas of
  // another length (the model is another one) or has not the tensors; DATA_LOSS where the ranges
  // do not cover the arena once.
  static absl::StatusOr<StateFiles> Open(const std::string& folder,
                                         const std::vector<std::string>& names,
                                         int64_t arena_numel);

  // Whether the files hold kAverageTensor.
  bool has_average() const { return has_average_; }

  // Bytes [begin, end) of file `file` of `names`.
  struct Part {
    size_t file = 0;
    uint64_t begin = 0, end = 0;
  };
  // Where elements [begin, end) of one of the tensors lie, in their order.
  std::vector<Part> Locate(const std::string& tensor, int64_t begin, int64_t end) const;
  // Copies them, from the page cache.
  void Read(const std::string& tensor, int64_t begin, int64_t end, float* out) const;

 private:
  struct File {
    std::string path;
    artefacts::SafetensorsFile file;
  };
  // A range of the arenas, and where it begins in the tensors of a file.
  struct Piece {
    ParameterLayout::Range range;
    size_t file = 0;
    int64_t first = 0;
  };
  absl::Status Add(const std::string& path, int64_t arena_numel);

  std::vector<File> files_;
  std::vector<Piece> pieces_;  // by range
  bool has_average_ = false;
};

}  // namespace moe::model
