#include "sampler/filters/text_features.h"

#include <algorithm>

namespace moe::sampler {
namespace {

// The numbers below are part of every trained model: changing one makes the models useless.
constexpr uint64_t kFnvStart = 0xcbf29ce484222325;
constexpr uint64_t kFnvPrime = 0x100000001b3;

enum class Kind { kWord, kNumber, kMark, kLineBreak };

bool IsDigit(char c) { return c >= '0' && c <= '9'; }
bool IsUpper(char c) { return c >= 'A' && c <= 'Z'; }
bool IsWordByte(char c) {
  return (c >= 'a' && c <= 'z') || IsUpper(c) || c == '\'' || static_cast<unsigned char>(c) >= 0x80;
}
char Lower(char c) { return IsUpper(c) ? static_cast<char>(c + ('a' - 'A')) : c; }

// FNV-1a of the bytes in lower case.
uint64_t Hash(std::string_view bytes) {
  uint64_t hash = kFnvStart;
  for (const char c : bytes) hash = (hash ^ static_cast<unsigned char>(Lower(c))) * kFnvPrime;
  return hash;
}

// Order matters; bits of either reach all of the result (MurmurHash3's finaliser).
uint64_t Join(uint64_t a, uint64_t b) {
  uint64_t x = a * 0x9e3779b97f4a7c15 + b;
  x = (x ^ (x >> 33)) * 0xff51afd7ed558ccd;
  x = (x ^ (x >> 33)) * 0xc4ceb9fe1a85ec53;
  return x ^ (x >> 33);
}

template <typename Visit>
void ForEachToken(std::string_view text, const Visit& visit) {
  for (size_t i = 0; i < text.size();) {
    const size_t begin = i;
    const char c = text[i++];
    if (IsWordByte(c)) {
      while (i < text.size() && IsWordByte(text[i])) ++i;
      visit(Kind::kWord, text.substr(begin, i - begin));
    } else if (IsDigit(c)) {
      while (i < text.size() && IsDigit(text[i])) ++i;
      visit(Kind::kNumber, text.substr(begin, i - begin));
    } else if (c == '\n') {
      visit(Kind::kLineBreak, text.substr(begin, 1));
    } else if (static_cast<unsigned char>(c) > ' ') {
      visit(Kind::kMark, text.substr(begin, 1));
    }
  }
}

uint64_t NumberHash(std::string_view digits) {
  return Hash(std::string_view("0000").substr(0, std::min<size_t>(digits.size(), 4)));
}

// "Xxing": how an uncommon word begins and ends.
uint64_t ShapeHash(std::string_view word) {
  const bool upper = IsUpper(word[0]);
  const bool all_upper = word.size() > 1 && std::all_of(word.begin(), word.end(), IsUpper);
  uint64_t hash = Join(1, all_upper ? 2 : upper ? 1 : 0);
  for (const std::string_view ending : {"ing", "ed", "ly", "tion", "s"}) {
    if (word.size() <= ending.size()) continue;
    const std::string_view end = word.substr(word.size() - ending.size());
    if (std::equal(end.begin(), end.end(), ending.begin(),
                   [](char a, char b) { return Lower(a) == b; })) {
      return Join(hash, Hash(ending));
    }
  }
  return hash;
}

std::vector<uint64_t> Tokens(std::string_view text, FeatureSet set, const CommonWords& common) {
  std::vector<uint64_t> tokens;
  tokens.reserve(text.size() / 4);
  const bool skeleton = set == FeatureSet::kSkeleton;
  ForEachToken(text, [&](Kind kind, std::string_view token) {
    switch (kind) {
      case Kind::kWord: {
        const uint64_t hash = Hash(token);
        tokens.push_back(!skeleton || common.contains(hash) ? hash : ShapeHash(token));
        return;
      }
      case Kind::kNumber:
        tokens.push_back(NumberHash(skeleton ? "0" : token));
        return;
      case Kind::kMark:
        if (!skeleton && std::string_view("$%!?").find(token) == std::string_view::npos) return;
        tokens.push_back(Hash(token));
        return;
      case Kind::kLineBreak:
        tokens.push_back(Hash(token));
        return;
    }
  });
  return tokens;
}

}  // namespace

uint64_t TokenHash(std::string_view word) { return Hash(word); }

std::vector<uint64_t> Features(std::string_view text, FeatureSet set, const CommonWords& common) {
  const std::vector<uint64_t> tokens = Tokens(text, set, common);
  std::vector<uint64_t> features;
  features.reserve(2 * tokens.size());
  for (size_t i = 0; i < tokens.size(); ++i) {
    if (set == FeatureSet::kWords) features.push_back(Join(0, tokens[i]));
    if (i == 0) continue;
    const uint64_t pair = Join(tokens[i - 1], tokens[i]);
    features.push_back(pair);
    if (set == FeatureSet::kSkeleton && i >= 2) features.push_back(Join(tokens[i - 2], pair));
  }
  return features;
}

std::vector<uint64_t> Words(std::string_view text) {
  std::vector<uint64_t> words;
  words.reserve(text.size() / 5);
  ForEachToken(text, [&](Kind kind, std::string_view token) {
    if (kind == Kind::kWord || kind == Kind::kNumber) words.push_back(Hash(token));
  });
  return words;
}

}  // namespace moe::sampler
