#include "sampler/dataset.h"

#include <algorithm>
#include <array>

#include "common/check.h"
#include "common/crc32c.h"
#include "common/file.h"
#include "common/status.h"
#include "sampler/token_shard.h"
#include "storage/artefacts/manifest.h"

namespace moe::sampler {

std::string ShardPath(Split split, const std::string& domain) {
  return (split == Split::kTrain ? "train/" : "heldout/") + domain + ".tokens";
}

class Dataset::Impl {
 public:
  std::vector<DatasetDomain> domains;
  int64_t vocab_size = 0;
  uint32_t manifest_crc32c = 0;
  std::array<std::vector<TokenShard>, 2> shards;  // by split, in the order of `domains`

  const TokenShard& Shard(Split split, int domain) const {
    const std::vector<TokenShard>& of_split = shards[split == Split::kTrain ? 0 : 1];
    MOE_CHECK(domain >= 0 && static_cast<size_t>(domain) < of_split.size());
    return of_split[static_cast<size_t>(domain)];
  }
};

Dataset::Dataset(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Dataset::~Dataset() = default;

namespace {

// One shard, checked against what the manifest says of it.
absl::StatusOr<TokenShard> OpenShard(const std::string& folder, const std::string& file,
                                     const artefacts::Manifest& manifest, int64_t vocab_size,
                                     int64_t num_tokens) {
  const auto entry = std::find_if(manifest.files.begin(), manifest.files.end(),
                                  [&](const auto& f) { return f.path == file; });
  if (entry == manifest.files.end()) {
    return DataLoss("{}/manifest.json does not list {}", folder, file);
  }
  const std::string path = JoinPath(folder, file);
  MOE_ASSIGN_OR_RETURN(TokenShard shard, TokenShard::Open(path));
  if (shard.file_crc32c() != entry->crc32c) {
    return DataLoss("{} is another file than its manifest describes: CRC-32C {:08x}, not {:08x}",
                    path, shard.file_crc32c(), entry->crc32c);
  }
  if (shard.vocab_size() != vocab_size || shard.num_tokens() != num_tokens) {
    return DataLoss("{} has {} tokens of a vocabulary of {}; its manifest says {} of {}", path,
                    shard.num_tokens(), shard.vocab_size(), num_tokens, vocab_size);
  }
  return shard;
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
  impl->vocab_size = metadata.Int("vocab_size");
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
  for (const DatasetDomain& domain : impl->domains) {
    MOE_ASSIGN_OR_RETURN(TokenShard train,
                         OpenShard(path, ShardPath(Split::kTrain, domain.name), manifest,
                                   impl->vocab_size, domain.train_tokens));
    MOE_ASSIGN_OR_RETURN(TokenShard heldout,
                         OpenShard(path, ShardPath(Split::kHeldout, domain.name), manifest,
                                   impl->vocab_size, domain.heldout_tokens));
    impl->shards[0].push_back(std::move(train));
    impl->shards[1].push_back(std::move(heldout));
  }
  return std::unique_ptr<Dataset>(new Dataset(std::move(impl)));
}

const std::vector<DatasetDomain>& Dataset::domains() const { return impl_->domains; }
int64_t Dataset::vocab_size() const { return impl_->vocab_size; }
uint32_t Dataset::manifest_crc32c() const { return impl_->manifest_crc32c; }

int64_t Dataset::NumSamples(Split split, int domain, int64_t length) const {
  MOE_CHECK(length > 0);
  return impl_->Shard(split, domain).num_tokens() / length;
}

void Dataset::ReadSample(Split split, int domain, int64_t index, int64_t length,
                         int64_t* tokens) const {
  MOE_CHECK(index >= 0 && index < NumSamples(split, domain, length));
  impl_->Shard(split, domain).Read(index * length, length, tokens);
}

}  // namespace moe::sampler
