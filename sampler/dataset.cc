#include "sampler/dataset.h"

#include <algorithm>
#include <array>

#include "common/check.h"
#include "common/crc32c.h"
#include "common/file.h"
#include "common/status.h"
#include "sampler/target_mask.h"
#include "sampler/token_shard.h"
#include "storage/artefacts/manifest.h"

namespace moe::sampler {

std::string ShardPath(Split split, const std::string& domain) {
  return (split == Split::kTrain ? "train/" : "heldout/") + domain + ".tokens";
}

std::string TargetMaskPath(Split split, const std::string& domain) {
  return (split == Split::kTrain ? "train/" : "heldout/") + domain + ".targets";
}

class Dataset::Impl {
 public:
  std::vector<DatasetDomain> domains;
  artefacts::Vocabulary vocabulary;
  uint32_t manifest_crc32c = 0;
  bool has_conversations = false;
  // By split, in the order of `domains`; masks of conversations only.
  std::array<std::vector<TokenShard>, 2> shards;
  std::array<std::vector<TargetMask>, 2> masks;

  const TokenShard& Shard(Split split, int domain) const { return Of(shards, split, domain); }
  const TargetMask& Mask(Split split, int domain) const { return Of(masks, split, domain); }

  // Where a sample's tokens are in its shard.
  struct Place {
    int64_t begin = 0, length = 0;
  };
  Place PlaceOf(Split split, int domain, int64_t index, int64_t length) const {
    const TokenShard& shard = Shard(split, domain);
    if (!has_conversations) {
      MOE_CHECK(index >= 0 && index < shard.num_tokens() / length);
      return {index * length, length};
    }
    MOE_CHECK(index >= 0 && index < shard.num_documents());
    const int64_t begin = index == 0 ? 0 : shard.DocumentEnd(index - 1);
    return {begin, std::min(length, shard.DocumentEnd(index) - begin)};
  }

 private:
  template <typename T>
  static const T& Of(const std::array<std::vector<T>, 2>& all, Split split, int domain) {
    const std::vector<T>& of_split = all[split == Split::kTrain ? 0 : 1];
    MOE_CHECK(domain >= 0 && static_cast<size_t>(domain) < of_split.size());
    return of_split[static_cast<size_t>(domain)];
  }
};

Dataset::Dataset(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Dataset::~Dataset() = default;

namespace {

// That a file is the one that the manifest lists.
absl::Status CheckListed(const std::string& folder, const std::string& file, uint32_t crc32c,
                         const artefacts::Manifest& manifest) {
  const auto entry = std::find_if(manifest.files.begin(), manifest.files.end(),
                                  [&](const auto& f) { return f.path == file; });
  if (entry == manifest.files.end()) {
    return DataLoss("{}/manifest.json does not list {}", folder, file);
  }
  if (crc32c != entry->crc32c) {
    return DataLoss("{} is another file than its manifest describes: CRC-32C {:08x}, not {:08x}",
                    JoinPath(folder, file), crc32c, entry->crc32c);
  }
  return absl::OkStatus();
}

// One shard, checked against what the manifest says of it.
absl::StatusOr<TokenShard> OpenShard(const std::string& folder, const std::string& file,
                                     const artefacts::Manifest& manifest, int64_t vocab_size,
                                     int64_t num_tokens) {
  const std::string path = JoinPath(folder, file);
  MOE_ASSIGN_OR_RETURN(TokenShard shard, TokenShard::Open(path));
  MOE_RETURN_IF_ERROR(CheckListed(folder, file, shard.file_crc32c(), manifest));
  if (shard.vocab_size() != vocab_size || shard.num_tokens() != num_tokens) {
    return DataLoss("{} has {} tokens of a vocabulary of {}; its manifest says {} of {}", path,
                    shard.num_tokens(), shard.vocab_size(), num_tokens, vocab_size);
  }
  return shard;
}

absl::StatusOr<TargetMask> OpenMask(const std::string& folder, const std::string& file,
                                    const artefacts::Manifest& manifest, int64_t num_tokens) {
  MOE_ASSIGN_OR_RETURN(TargetMask mask, TargetMask::Open(JoinPath(folder, file)));
  MOE_RETURN_IF_ERROR(CheckListed(folder, file, mask.file_crc32c(), manifest));
  if (mask.num_tokens() != num_tokens) {
    return DataLoss("{}/{} is for {} tokens; the shard has {}", folder, file, mask.num_tokens(),
                    num_tokens);
  }
  return mask;
}

}  // namespace

absl::StatusOr<std::unique_ptr<Dataset>> Dataset::Open(const std::string& path) {
  const std::string manifest_path = JoinPath(path, "manifest.json");
  MOE_ASSIGN_OR_RETURN(const std::string manifest_text, ReadFile(manifest_path));
  auto impl = std::make_unique<Impl>();
  impl->manifest_crc32c = Crc32c(manifest_text.data(), manifest_text.size());
  MOE_ASSIGN_OR_RETURN(const artefacts::Manifest manifest,
                       artefacts::ReadManifest(path, &impl->manifest_crc32c));
  if (manifest.kind != "dataset") {
    return InvalidArgument("{} is a {}, not a dataset; make one with a prepare job", path,
                           manifest.kind);
  }
  JsonReader metadata(manifest.metadata, manifest_path + ": metadata");
  impl->vocabulary.size = metadata.Int("vocab_size");
  if (metadata.Has("tokenizer_crc32c")) {
    impl->vocabulary.tokenizer_crc32c = static_cast<uint32_t>(metadata.Uint("tokenizer_crc32c"));
  }
  for (const Json& item : metadata.Array("domains")) {
    JsonReader reader(item, metadata.path() + ".domains");
    DatasetDomain domain;
    domain.name = reader.String("name");
    domain.train_tokens = reader.Int("train_tokens");
    domain.heldout_tokens = reader.Int("heldout_tokens");
    MOE_RETURN_IF_ERROR(reader.status());
    impl->domains.push_back(std::move(domain));
  }
  MOE_RETURN_IF_ERROR(metadata.status());
  impl->has_conversations = metadata.Has("conversations");
  for (const DatasetDomain& domain : impl->domains) {
    for (const Split split : {Split::kTrain, Split::kHeldout}) {
      const size_t side = split == Split::kTrain ? 0 : 1;
      const int64_t num_tokens =
          split == Split::kTrain ? domain.train_tokens : domain.heldout_tokens;
      MOE_ASSIGN_OR_RETURN(TokenShard shard,
                           OpenShard(path, ShardPath(split, domain.name), manifest,
                                     impl->vocabulary.size, num_tokens));
      impl->shards[side].push_back(std::move(shard));
      if (!impl->has_conversations) continue;
      MOE_ASSIGN_OR_RETURN(TargetMask mask, OpenMask(path, TargetMaskPath(split, domain.name),
                                                     manifest, num_tokens));
      impl->masks[side].push_back(std::move(mask));
    }
  }
  return std::unique_ptr<Dataset>(new Dataset(std::move(impl)));
}

const std::vector<DatasetDomain>& Dataset::domains() const { return impl_->domains; }
artefacts::Vocabulary Dataset::vocabulary() const { return impl_->vocabulary; }
uint32_t Dataset::manifest_crc32c() const { return impl_->manifest_crc32c; }

bool Dataset::has_conversations() const { return impl_->has_conversations; }

int64_t Dataset::NumSamples(Split split, int domain, int64_t length) const {
  MOE_CHECK(length > 0);
  const TokenShard& shard = impl_->Shard(split, domain);
  return impl_->has_conversations ? shard.num_documents() : shard.num_tokens() / length;
}

int64_t Dataset::SampleLength(Split split, int domain, int64_t index, int64_t length) const {
  return impl_->PlaceOf(split, domain, index, length).length;
}

int64_t Dataset::NumTargets(Split split, int domain, int64_t index, int64_t length) const {
  const Impl::Place place = impl_->PlaceOf(split, domain, index, length);
  if (!impl_->has_conversations) return place.length - 1;
  return impl_->Mask(split, domain).Count(place.begin + 1, place.begin + place.length);
}

void Dataset::ReadSample(Split split, int domain, int64_t index, int64_t length,
                         int64_t* tokens) const {
  const Impl::Place place = impl_->PlaceOf(split, domain, index, length);
  impl_->Shard(split, domain).Read(place.begin, place.length, tokens);
}

void Dataset::ReadSample(Split split, int domain, int64_t index, int64_t length, int64_t* tokens,
                         int64_t* targets) const {
  const Impl::Place place = impl_->PlaceOf(split, domain, index, length);
  impl_->Shard(split, domain).Read(place.begin, place.length, tokens);
  for (int64_t t = 0; t < place.length; ++t) {
    const bool counts =
        t + 1 < place.length &&
        (!impl_->has_conversations || impl_->Mask(split, domain).IsTarget(place.begin + t + 1));
    targets[t] = counts ? tokens[t + 1] : -1;
  }
}

std::vector<int64_t> Dataset::DocumentStarts(Split split, int domain, int64_t index,
                                             int64_t length) const {
  const TokenShard& shard = impl_->Shard(split, domain);
  const Impl::Place place = impl_->PlaceOf(split, domain, index, length);
  std::vector<int64_t> starts = {0};
  for (int64_t document = shard.DocumentOf(place.begin);; ++document) {
    const int64_t next = shard.DocumentEnd(document);
    if (next >= place.begin + place.length) return starts;
    starts.push_back(next - place.begin);
  }
}

}  // namespace moe::sampler
