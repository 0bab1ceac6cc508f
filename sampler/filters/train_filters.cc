// Trains the models of the score filters and says how good they are (docs/data.md has the recipe).
//
//   train_filters --web DIR --good DIR... --labels LABELS --out DIR
//
// Nobody labelled the text it trains on. Advertisements: documents are labelled by how many phrases
// of trade they hold, and the model learns what else those documents have in common. Fluency: real
// text against the same text spoilt. LABELS, made by hand, is left out of training and only judges.
#include <CLI/CLI.hpp>
#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <iostream>
#include <limits>
#include <map>
#include <numeric>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/container/flat_hash_set.h"
#include "common/file.h"
#include "common/philox.h"
#include "common/status.h"
#include "sampler/documents.h"
#include "sampler/duplicates.h"
#include "sampler/filters/linear_text_model.h"
#include "sampler/filters/text_features.h"

namespace moe::sampler {
namespace {

constexpr size_t kNumWeights = size_t{1} << 16;
constexpr size_t kNumCommonWords = 800;
constexpr size_t kWindowTokens = 60;
constexpr size_t kNumWindows = 24000;

// Words and pairs of words of somebody who wants to sell.
constexpr const char* kTradePhrases[] = {"buy",
                                         "shop",
                                         "order now",
                                         "order online",
                                         "order today",
                                         "add to cart",
                                         "free shipping",
                                         "sale",
                                         "discount",
                                         "discounts",
                                         "coupon",
                                         "coupons",
                                         "deal",
                                         "deals",
                                         "call us",
                                         "call now",
                                         "call today",
                                         "contact us",
                                         "give us a",
                                         "our team",
                                         "our product",
                                         "our products",
                                         "our service",
                                         "our services",
                                         "our customers",
                                         "our clients",
                                         "our experts",
                                         "our store",
                                         "our website",
                                         "our range",
                                         "our company",
                                         "our prices",
                                         "our specialists",
                                         "our experienced",
                                         "our professional",
                                         "our professionals",
                                         "our staff",
                                         "we offer",
                                         "we provide",
                                         "we specialize",
                                         "we pride",
                                         "we deliver",
                                         "we can help",
                                         "we guarantee",
                                         "your home",
                                         "your business",
                                         "your needs",
                                         "your budget",
                                         "your order",
                                         "your project",
                                         "your property",
                                         "your vehicle",
                                         "your company",
                                         "warranty",
                                         "high quality",
                                         "best quality",
                                         "affordable",
                                         "free quote",
                                         "free estimate",
                                         "free consultation",
                                         "for sale",
                                         "perfect for",
                                         "ideal for",
                                         "in stock",
                                         "price",
                                         "prices",
                                         "pricing",
                                         "satisfaction",
                                         "look no further",
                                         "years of experience",
                                         "made from",
                                         "made of",
                                         "made with",
                                         "features a",
                                         "features an",
                                         "designed to",
                                         "designed for",
                                         "comes with",
                                         "available in",
                                         "book now",
                                         "book your",
                                         "book online",
                                         "leading manufacturer",
                                         "leading provider",
                                         "leading supplier",
                                         "guests",
                                         "ticket",
                                         "tickets",
                                         "customer",
                                         "customers"};

class Random {
 public:
  explicit Random(uint64_t seed) : seed_(seed) {}
  uint64_t Below(uint64_t limit) {
    return static_cast<uint64_t>(Uniform() * static_cast<double>(limit));
  }
  double Uniform() {
    const std::array<uint32_t, 4> words = Philox4x32(
        {static_cast<uint32_t>(count_), static_cast<uint32_t>(count_ >> 32), 0, 0}, seed_);
    ++count_;
    return UniformDouble(words[0], words[1]);
  }
  template <typename T>
  void Shuffle(std::vector<T>& items) {
    for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[Below(i)]);
  }

 private:
  const uint64_t seed_;
  uint64_t count_ = 0;
};

struct Example {
  std::vector<uint32_t> indices;  // of weights
  bool positive = false;
};

std::vector<uint32_t> Indices(const std::string& text, FeatureSet set, const CommonWords& common) {
  std::vector<uint32_t> indices;
  for (const uint64_t feature : Features(text, set, common)) {
    indices.push_back(static_cast<uint32_t>(LinearTextModel::Index(feature, kNumWeights)));
  }
  return indices;
}

struct Trained {
  std::vector<double> weights = std::vector<double>(kNumWeights, 0.0);
  double bias = 0;
};

// Logistic regression on the mean weight of an example's features, by stochastic gradient descent
// with a rate that falls to 0.
Trained Train(const std::vector<Example>& examples, int epochs, double rate) {
  Trained model;
  Random random(/*seed=*/1);
  std::vector<size_t> order(examples.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const double steps = static_cast<double>(examples.size()) * epochs;
  double step = 0;
  for (int epoch = 0; epoch < epochs; ++epoch) {
    random.Shuffle(order);
    for (const size_t i : order) {
      const double left = 1 - step++ / steps;
      const auto& [indices, positive] = examples[i];
      if (indices.empty()) continue;
      const auto size = static_cast<double>(indices.size());
      double sum = 0;
      for (const uint32_t index : indices) sum += model.weights[index];
      const double error = 1 / (1 + std::exp(-(sum / size + model.bias))) - (positive ? 1 : 0);
      for (const uint32_t index : indices) model.weights[index] -= left * rate * error / size;
      model.bias -= left * 0.02 * error;
    }
  }
  return model;
}

absl::StatusOr<LinearTextModel> Quantise(const Trained& trained, FeatureSet set,
                                         std::vector<std::string> common_words) {
  LinearTextModel::Parts parts = {
      .features = set, .common_words = std::move(common_words), .bias = trained.bias};
  double largest = 0;
  for (const double weight : trained.weights) largest = std::max(largest, std::abs(weight));
  parts.scale = largest / std::numeric_limits<int8_t>::max();
  for (const double weight : trained.weights) {
    parts.weights.push_back(static_cast<int8_t>(std::lround(weight / parts.scale)));
  }
  return LinearTextModel::Make(std::move(parts));
}

// Phrases of trade, and prices, among 100 words.
double TradeShare(const std::string& text) {
  static const absl::flat_hash_set<uint64_t> phrases = [] {
    absl::flat_hash_set<uint64_t> set;
    for (const char* phrase : kTradePhrases) {
      uint64_t hash = 0;
      for (const uint64_t word : Words(phrase)) hash = hash * 31 + word;
      set.insert(hash);
    }
    return set;
  }();
  const std::vector<uint64_t> words = Words(text);
  double found = 0;
  for (size_t i = 0; i < words.size(); ++i) {
    uint64_t hash = 0;
    for (size_t n = 0; n < 3 && i + n < words.size(); ++n) {
      hash = hash * 31 + words[i + n];
      if (phrases.contains(hash)) ++found;
    }
  }
  for (size_t i = 0; i + 1 < text.size(); ++i) {
    if (text[i] == '$' && text[i + 1] >= '0' && text[i + 1] <= '9') ++found;
  }
  return 100 * found / (static_cast<double>(words.size()) + 30);
}

absl::StatusOr<LinearTextModel> TrainAdvertisement(const std::vector<std::string>& web) {
  std::vector<double> shares;
  shares.reserve(web.size());
  for (const std::string& text : web) shares.push_back(TradeShare(text));
  std::vector<double> sorted = shares;
  std::sort(sorted.begin(), sorted.end());
  const double many = sorted[sorted.size() * 72 / 100];
  constexpr double kFew = 0.35;
  std::vector<Example> examples;
  for (size_t i = 0; i < web.size(); ++i) {
    if (shares[i] >= kFew && shares[i] < many) continue;  // no clear case
    examples.push_back({Indices(web[i], FeatureSet::kWords, {}), shares[i] >= many});
  }
  return Quantise(Train(examples, /*epochs=*/30, /*rate=*/10), FeatureSet::kWords, {});
}

// Cuts like text_features.cc, which keeps no text.
std::vector<std::string> Tokens(const std::string& text) {
  std::vector<std::string> tokens;
  const auto kind = [](char c) {
    if (c >= '0' && c <= '9') return 1;
    const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '\'' ||
                        static_cast<unsigned char>(c) >= 0x80;
    return letter ? 2 : 0;
  };
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i++;
    const int first = kind(text[begin]);
    while (first != 0 && i < text.size() && kind(text[i]) == first) ++i;
    if (text[begin] == '\n' || static_cast<unsigned char>(text[begin]) > ' ') {
      tokens.push_back(text.substr(begin, i - begin));
    }
  }
  return tokens;
}

bool IsWord(const std::string& token) {
  const char c = token[0];
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || static_cast<unsigned char>(c) >= 0x80;
}

std::string Lower(std::string word) {
  for (char& c : word) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c;
  return word;
}

std::string Joined(const std::vector<std::string>& tokens) {
  std::string text;
  for (const std::string& token : tokens) text += token + " ";
  return text;
}

// What text on the web looks like that nobody wrote to be read.
class Spoiler {
 public:
  Spoiler(const std::vector<std::vector<std::string>>& windows, const CommonWords& common)
      : windows_(windows), common_(common) {
    for (const auto& window : windows) {
      for (const std::string& token : window) {
        if (IsWord(token)) words_.push_back(&token);
      }
    }
  }

  std::vector<std::string> Spoil(std::vector<std::string> window) {
    const double kind = random_.Uniform();
    if (kind < 0.30) return ShuffleNearby(std::move(window));
    if (kind < 0.55) return DropCommonWords(window);
    if (kind < 0.75) return Keywords();
    if (kind < 0.90) return Titles(window);
    return Fragments();
  }

 private:
  std::vector<std::string> ShuffleNearby(std::vector<std::string> window) {
    for (size_t i = 0; i < window.size(); i += 8) {
      std::vector<std::string> part(
          window.begin() + static_cast<std::ptrdiff_t>(i),
          window.begin() + static_cast<std::ptrdiff_t>(std::min(i + 8, window.size())));
      random_.Shuffle(part);
      std::copy(part.begin(), part.end(), window.begin() + static_cast<std::ptrdiff_t>(i));
    }
    return window;
  }
  std::vector<std::string> DropCommonWords(const std::vector<std::string>& window) {
    std::vector<std::string> rest;
    for (const std::string& token : window) {
      if (common_.contains(TokenHash(token)) && random_.Uniform() < 0.7) continue;
      rest.push_back(token);
    }
    return rest;
  }
  std::vector<std::string> Keywords() {
    std::vector<std::string> base, list;
    for (int i = 0; i < 12; ++i) base.push_back(*words_[random_.Below(words_.size())]);
    for (int i = 0; i < 50; ++i) list.push_back(base[random_.Below(base.size())]);
    return list;
  }
  std::vector<std::string> Titles(const std::vector<std::string>& window) {
    std::vector<std::string> titles;
    for (std::string token : window) {
      if (random_.Uniform() >= 0.7) continue;
      token = Lower(std::move(token));
      if (token[0] >= 'a' && token[0] <= 'z') token[0] = static_cast<char>(token[0] - 32);
      titles.push_back(std::move(token));
    }
    return titles;
  }
  std::vector<std::string> Fragments() {
    std::vector<std::string> list;
    while (list.size() < 50) {
      const std::vector<std::string>& other = windows_[random_.Below(windows_.size())];
      const size_t begin = random_.Below(other.size());
      const size_t end = std::min(other.size(), begin + 1 + random_.Below(4));
      list.insert(list.end(), other.begin() + static_cast<std::ptrdiff_t>(begin),
                  other.begin() + static_cast<std::ptrdiff_t>(end));
    }
    return list;
  }

  const std::vector<std::vector<std::string>>& windows_;
  const CommonWords& common_;
  std::vector<const std::string*> words_;
  Random random_{/*seed=*/3};
};

absl::StatusOr<LinearTextModel> TrainFluency(const std::vector<std::string>& texts) {
  std::map<std::string, int64_t> counts;
  std::vector<std::vector<std::string>> windows;
  for (const std::string& text : texts) {
    const std::vector<std::string> tokens = Tokens(text);
    for (const std::string& token : tokens) {
      if (IsWord(token)) ++counts[Lower(token)];
    }
    for (size_t i = 0; i + kWindowTokens / 2 < tokens.size(); i += kWindowTokens) {
      windows.emplace_back(
          tokens.begin() + static_cast<std::ptrdiff_t>(i),
          tokens.begin() + static_cast<std::ptrdiff_t>(std::min(i + kWindowTokens, tokens.size())));
    }
  }
  std::vector<std::pair<int64_t, std::string>> by_count;
  by_count.reserve(counts.size());
  for (const auto& [word, count] : counts) by_count.emplace_back(-count, word);
  std::sort(by_count.begin(), by_count.end());
  std::vector<std::string> common_words;
  CommonWords common;
  for (size_t i = 0; i < std::min(kNumCommonWords, by_count.size()); ++i) {
    common_words.push_back(by_count[i].second);
    common.insert(TokenHash(by_count[i].second));
  }
  Random(/*seed=*/2).Shuffle(windows);
  windows.resize(std::min(windows.size(), kNumWindows));

  Spoiler spoiler(windows, common);
  std::vector<Example> examples;
  for (size_t i = 0; i < windows.size(); ++i) {
    const bool real = i % 2 == 0;
    const std::string text = Joined(real ? windows[i] : spoiler.Spoil(windows[i]));
    examples.push_back({Indices(text, FeatureSet::kSkeleton, common), real});
  }
  return Quantise(Train(examples, /*epochs=*/4, /*rate=*/5), FeatureSet::kSkeleton,
                  std::move(common_words));
}

struct Label {
  bool advertisement = false, not_fluent = false;
};
using Labels = absl::flat_hash_map<TextHash, Label>;

// Lines of: 32 hexadecimal digits of the text's XXH3-128, and 0 or 1 for each class.
absl::StatusOr<Labels> ReadLabels(const std::string& path) {
  std::ifstream file(path);
  if (!file) return NotFound("cannot read {}", path);
  Labels labels;
  std::string line;
  while (std::getline(file, line)) {
    if (line.empty() || line[0] == '#') continue;
    char hash[33];
    int advertisement = 0, not_fluent = 0;
    if (std::sscanf(line.c_str(), "%32s %d %d", hash, &advertisement, &not_fluent) != 3) {
      return InvalidArgument("{}: not a label: {}", path, line);
    }
    const std::string digits = hash;
    labels[{.low = std::stoull(digits.substr(16), nullptr, 16),
            .high = std::stoull(digits.substr(0, 16), nullptr, 16)}] = {advertisement == 1,
                                                                        not_fluent == 1};
  }
  return labels;
}

absl::Status ReadTexts(const std::string& path, std::vector<std::string>& texts) {
  MOE_ASSIGN_OR_RETURN(DocumentReader reader, DocumentReader::Open({path}, {}));
  for (;;) {
    MOE_ASSIGN_OR_RETURN(std::optional<std::string> text, reader.Next());
    if (!text.has_value()) return absl::OkStatus();
    texts.push_back(*std::move(text));
  }
}

// How well the worst `drop` of the labelled documents, by badness, are those of the class.
void Judge(const std::string& name, double drop,
           std::vector<std::pair<double, bool>> badness_and_class) {
  std::sort(badness_and_class.begin(), badness_and_class.end(), std::greater<>());
  const auto count = static_cast<double>(badness_and_class.size());
  double inside = 0, pairs = 0, outside = 0;
  for (const auto& [badness, in_class] : badness_and_class) {
    if (in_class) {
      ++inside;
    } else {
      ++outside;
      pairs += inside;
    }
  }
  double hits = 0;
  const double dropped = std::floor(drop * count);
  for (size_t i = 0; i < static_cast<size_t>(dropped); ++i) hits += badness_and_class[i].second;
  std::printf(
      "%-14s %4.0f labelled, %3.0f of the class; ROC area %.3f; worst %2.0f %%: precision "
      "%.2f, recall %.2f (by chance %.2f)\n",
      name.c_str(), count, inside, pairs / (inside * outside), 100 * drop, hits / dropped,
      hits / inside, drop);
}

absl::Status Run(const std::string& web_path, const std::vector<std::string>& good_paths,
                 const std::string& labels_path, const std::string& out) {
  MOE_ASSIGN_OR_RETURN(const Labels labels, ReadLabels(labels_path));
  std::vector<std::string> all, web, labelled, good;
  MOE_RETURN_IF_ERROR(ReadTexts(web_path, all));
  for (std::string& text : all) {
    (labels.contains(HashOf(text)) ? labelled : web).push_back(std::move(text));
  }
  if (web.empty()) return InvalidArgument("{} has no text without a label", web_path);
  good = web;
  for (const std::string& path : good_paths) MOE_RETURN_IF_ERROR(ReadTexts(path, good));
  MOE_ASSIGN_OR_RETURN(const LinearTextModel advertisement, TrainAdvertisement(web));
  MOE_ASSIGN_OR_RETURN(const LinearTextModel fluency, TrainFluency(good));
  MOE_RETURN_IF_ERROR(MakeDirectories(out));
  MOE_RETURN_IF_ERROR(
      WriteFileAtomically(JoinPath(out, "advertisement.model"), advertisement.Serialize()));
  MOE_RETURN_IF_ERROR(WriteFileAtomically(JoinPath(out, "fluency.model"), fluency.Serialize()));

  std::vector<std::pair<double, bool>> by_advertisement, by_fluency;
  for (const std::string& text : labelled) {
    const Label label = labels.at(HashOf(text));
    by_advertisement.emplace_back(advertisement.Score(text), label.advertisement);
    by_fluency.emplace_back(-fluency.Score(text), label.not_fluent);
  }
  Judge("advertisement", 0.5, std::move(by_advertisement));
  Judge("fluency", 0.15, std::move(by_fluency));
  return absl::OkStatus();
}

}  // namespace
}  // namespace moe::sampler

int main(int argc, char** argv) {
  CLI::App app("Trains the models of the score filters.", "train_filters");
  std::string web, labels, out;
  std::vector<std::string> good;
  app.add_option("--web", web, "Web text: JSON lines, or a folder of them")->required();
  app.add_option("--good", good, "More text that people wrote to be read");
  app.add_option("--labels", labels, "Labels to judge by")->required();
  app.add_option("--out", out, "Folder for the models")->required();
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = moe::sampler::Run(web, good, labels, out);
  if (!status.ok()) std::fprintf(stderr, "train_filters: %s\n", moe::Message(status).c_str());
  return status.ok() ? 0 : 1;
}
