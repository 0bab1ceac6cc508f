// A score of a text: the mean weight of its features (text_features.h), as a fastText classifier of
// two classes with one dimension would give it. 64 KiB each, no floating-point sum, so the same
// score on every machine.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "sampler/filters/text_features.h"

namespace moe::sampler {

// Immutable and thread-safe.
class LinearTextModel {
 public:
  // What training gives (sampler/filters/train_filters.cc).
  struct Parts {
    FeatureSet features = FeatureSet::kWords;
    std::vector<std::string> common_words;  // of a skeleton
    double scale = 0;                       // of the weights
    double bias = 0;
    std::vector<int8_t> weights;  // a power of two of them
  };
  // INVALID_ARGUMENT where the parts do not go together.
  static absl::StatusOr<LinearTextModel> Make(Parts parts);
  // Of a model file (docs/formats/text-model.md); `what` names it in messages. DATA_LOSS says what
  // is wrong with it.
  static absl::StatusOr<LinearTextModel> Parse(const std::string& file, const std::string& what);
  std::string Serialize() const;

  // The logarithm of the odds that the text is of the class that the model was trained for; the
  // bias alone where it has no features.
  float Score(const std::string& text) const;

  // Which weight a feature has.
  static size_t Index(uint64_t feature, size_t num_weights);
  // CRC-32C of the file: scores of two models are comparable where it is the same.
  uint32_t crc32c() const { return crc32c_; }

 private:
  explicit LinearTextModel(Parts parts);

  Parts parts_;
  CommonWords common_;
  uint32_t crc32c_ = 0;
};

// What the programs carry: a higher score is more fluent, and more like an advertisement.
const LinearTextModel& FluencyModel();
const LinearTextModel& AdvertisementModel();

}  // namespace moe::sampler
