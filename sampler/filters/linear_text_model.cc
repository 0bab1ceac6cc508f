#include "sampler/filters/linear_text_model.h"

#include <bit>
#include <cmath>
#include <span>

#include "common/check.h"
#include "common/crc32c.h"
#include "common/json.h"
#include "common/status.h"
#include "sampler/filters/builtin_models.h"

namespace moe::sampler {
namespace {

constexpr char kFormat[] = "moe-text-model";
constexpr int64_t kVersion = 1;
constexpr size_t kMinWeights = 2, kMaxWeights = size_t{1} << 24;

const char* NameOf(FeatureSet set) { return set == FeatureSet::kWords ? "words" : "skeleton"; }

LinearTextModel Builtin(std::span<const uint8_t> file, const char* name) {
  absl::StatusOr<LinearTextModel> model =
      LinearTextModel::Parse(std::string(file.begin(), file.end()), name);
  MOE_CHECK(model.ok());  // a test parses both
  return *std::move(model);
}

}  // namespace

LinearTextModel::LinearTextModel(Parts parts) : parts_(std::move(parts)) {
  for (const std::string& word : parts_.common_words) common_.insert(TokenHash(word));
  const std::string file = Serialize();
  crc32c_ = Crc32c(file.data(), file.size());
}

absl::StatusOr<LinearTextModel> LinearTextModel::Make(Parts parts) {
  const size_t count = parts.weights.size();
  if (count < kMinWeights || count > kMaxWeights || !std::has_single_bit(count)) {
    return InvalidArgument("{} weights; there must be a power of two, {} to {}", count, kMinWeights,
                           kMaxWeights);
  }
  if (!std::isfinite(parts.scale) || !std::isfinite(parts.bias)) {
    return InvalidArgument("the scale {} and the bias {} must be finite", parts.scale, parts.bias);
  }
  if (parts.features == FeatureSet::kWords && !parts.common_words.empty()) {
    return InvalidArgument("common words belong to a skeleton");
  }
  return LinearTextModel(std::move(parts));
}

// A line of JSON, then the weights.
std::string LinearTextModel::Serialize() const {
  const Json header = {{"format", kFormat},
                       {"version", kVersion},
                       {"features", NameOf(parts_.features)},
                       {"common_words", parts_.common_words},
                       {"scale", parts_.scale},
                       {"bias", parts_.bias},
                       {"num_weights", parts_.weights.size()}};
  std::string file = header.dump() + "\n";
  file.append(reinterpret_cast<const char*>(parts_.weights.data()), parts_.weights.size());
  return file;
}

absl::StatusOr<LinearTextModel> LinearTextModel::Parse(const std::string& file,
                                                       const std::string& what) {
  const size_t line_end = file.find('\n');
  if (line_end == std::string::npos) return DataLoss("{} has no header", what);
  MOE_ASSIGN_OR_RETURN(const Json header, ParseJson(file.substr(0, line_end), what));
  JsonReader reader(header, what);
  const std::string format = reader.String("format"), features = reader.String("features");
  const int64_t version = reader.Int("version"), num_weights = reader.Int("num_weights");
  Parts parts = {.common_words = reader.Strings("common_words"),
                 .scale = reader.Double("scale"),
                 .bias = reader.Double("bias")};
  MOE_RETURN_IF_ERROR(reader.status());
  if (format != kFormat || version != kVersion) {
    return DataLoss("{} is of format {} version {}; this program reads {} version {}", what, format,
                    version, kFormat, kVersion);
  }
  if (features != NameOf(FeatureSet::kWords) && features != NameOf(FeatureSet::kSkeleton)) {
    return DataLoss("{} has the features '{}'; known are words and skeleton", what, features);
  }
  if (features == NameOf(FeatureSet::kSkeleton)) parts.features = FeatureSet::kSkeleton;
  if (num_weights != static_cast<int64_t>(file.size() - line_end - 1)) {
    return DataLoss("{} has {} bytes of weights and says {}", what, file.size() - line_end - 1,
                    num_weights);
  }
  parts.weights.assign(file.begin() + static_cast<std::ptrdiff_t>(line_end) + 1, file.end());
  return Make(std::move(parts));
}

size_t LinearTextModel::Index(uint64_t feature, size_t num_weights) {
  return static_cast<size_t>(feature & (num_weights - 1));
}

float LinearTextModel::Score(const std::string& text) const {
  const std::vector<uint64_t> features = Features(text, parts_.features, common_);
  int64_t sum = 0;
  for (const uint64_t feature : features)
    sum += parts_.weights[Index(feature, parts_.weights.size())];
  const double mean =
      features.empty() ? 0 : static_cast<double>(sum) / static_cast<double>(features.size());
  return static_cast<float>(parts_.scale * mean + parts_.bias);
}

const LinearTextModel& FluencyModel() {
  static const LinearTextModel model = Builtin(kFluencyModelFile, "the fluency model");
  return model;
}

const LinearTextModel& AdvertisementModel() {
  static const LinearTextModel model = Builtin(kAdvertisementModelFile, "the advertisement model");
  return model;
}

}  // namespace moe::sampler
