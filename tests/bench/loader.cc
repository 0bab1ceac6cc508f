// The trainer's reader: samples per second from a dataset on disk, in the order of a mixture.
//
//   loader FOLDER [--quick]
//
// Makes a dataset of random tokens in FOLDER, seven domains with a vocabulary of 32,000, and prints
// one JSON object.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "common/file.h"
#include "common/json.h"
#include "common/philox.h"
#include "common/status.h"
#include "sampler/dataset.h"
#include "sampler/sample_sequence.h"
#include "sampler/token_shard.h"
#include "storage/artefacts/manifest.h"

namespace moe::sampler {
namespace {

constexpr int64_t kSampleTokens = 4096;
constexpr int64_t kMicroBatch = 8;

const std::vector<std::string> kDomains = {"commoncrawl", "c4",    "github",       "wikipedia",
                                           "books",       "arxiv", "stackexchange"};

double Seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Resident memory that is no page of a file, in MiB.
double PrivateMebibytes() {
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    if (word == "RssAnon:") {
      double kibibytes = 0;
      status >> kibibytes;
      return kibibytes / 1024;
    }
  }
  return 0;
}

absl::Status MakeDataset(const std::string& folder, int64_t tokens_per_domain) {
  Json domains = Json::array();
  for (const char* split : {"train", "heldout"}) {
    MOE_RETURN_IF_ERROR(MakeDirectories(JoinPath(folder, split)));
  }
  PhiloxGenerator random(/*seed=*/1, RandomStream::kTest, 0);
  for (const std::string& domain : kDomains) {
    for (const Split split : {Split::kTrain, Split::kHeldout}) {
      MOE_ASSIGN_OR_RETURN(
          auto writer, TokenShardWriter::Create(JoinPath(folder, ShardPath(split, domain)), 32000));
      const int64_t tokens = split == Split::kTrain ? tokens_per_domain : kSampleTokens;
      std::vector<int32_t> document(1024);
      while (writer->extent().tokens < tokens) {
        for (int32_t& token : document) token = static_cast<int32_t>(random.Below(32000));
        MOE_RETURN_IF_ERROR(writer->AppendDocument(document));
      }
      MOE_RETURN_IF_ERROR(writer->Finish());
    }
    domains.push_back(
        {{"name", domain}, {"train_tokens", tokens_per_domain}, {"heldout_tokens", kSampleTokens}});
  }
  artefacts::Manifest manifest;
  manifest.kind = "dataset";
  manifest.name = "loader";
  manifest.job_id = "j1";
  manifest.attempt = 1;
  manifest.metadata = {{"vocab_size", 32000}, {"domains", domains}};
  return artefacts::WriteManifest(folder, manifest).status();
}

absl::StatusOr<Json> Measure(const std::string& folder, int64_t batches) {
  const double open_begin = Seconds();
  MOE_ASSIGN_OR_RETURN(const auto dataset, Dataset::Open(folder));
  const double open_seconds = Seconds() - open_begin;
  MOE_ASSIGN_OR_RETURN(const std::vector<double> weights, MixturePreset("llama1", kDomains));
  std::vector<SampleSequence::Domain> domains;
  int64_t tokens = 0;
  for (size_t i = 0; i < kDomains.size(); ++i) {
    domains.push_back({kDomains[i],
                       dataset->NumSamples(Split::kTrain, static_cast<int>(i), kSampleTokens),
                       weights[i]});
    tokens += dataset->domains()[i].train_tokens;
  }
  MOE_ASSIGN_OR_RETURN(SampleSequence sequence, SampleSequence::Create(1227, domains));

  std::vector<int64_t> batch(static_cast<size_t>(kMicroBatch * kSampleTokens));
  std::vector<double> milliseconds;
  const double private_before = PrivateMebibytes();
  uint64_t sum = 0;
  const double begin = Seconds();
  for (int64_t b = 0; b < batches; ++b) {
    const double batch_begin = Seconds();
    for (int64_t i = 0; i < kMicroBatch; ++i) {
      const SampleRef sample = sequence.Next();
      dataset->ReadSample(Split::kTrain, sample.domain, sample.sample, kSampleTokens,
                          batch.data() + i * kSampleTokens);
    }
    milliseconds.push_back(1e3 * (Seconds() - batch_begin));
    sum += static_cast<uint64_t>(batch[static_cast<size_t>(b % kSampleTokens)]);
  }
  const double seconds = Seconds() - begin;
  std::sort(milliseconds.begin(), milliseconds.end());
  return Json{
      {"dataset_tokens", tokens},
      {"open_seconds", open_seconds},
      {"batches_per_second", static_cast<double>(batches) / seconds},
      {"tokens_per_second", static_cast<double>(batches * kMicroBatch * kSampleTokens) / seconds},
      {"batch_p50_ms", milliseconds[milliseconds.size() / 2]},
      {"batch_p99_ms", milliseconds[milliseconds.size() * 99 / 100]},
      {"private_mebibytes_for_reading", PrivateMebibytes() - private_before},
      {"checksum", sum}};
}

absl::StatusOr<Json> Run(const std::string& folder, bool quick) {
  // A multiple of a document, so that every domain has exactly this many tokens.
  MOE_RETURN_IF_ERROR(MakeDataset(folder, quick ? int64_t{4} << 20 : int64_t{64} << 20));
  return Measure(folder, quick ? 500 : 20000);
}

}  // namespace
}  // namespace moe::sampler

int main(int argc, char** argv) {
  if (argc < 2 || argc > 3 || (argc == 3 && std::string(argv[2]) != "--quick")) {
    std::cerr << "usage: loader FOLDER [--quick]\n";
    return 2;
  }
  const auto result = moe::sampler::Run(argv[1], argc == 3);
  if (!result.ok()) {
    std::cerr << moe::ToString(result.status()) << '\n';
    return 1;
  }
  std::cout << result->dump() << '\n';
  return 0;
}
