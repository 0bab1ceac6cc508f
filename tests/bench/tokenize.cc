// Times one pass over texts:
//   tokenize TOKENIZER TEXTS IDS     TEXTS: one JSON string a line
// Prints {"seconds", "tokens"} and, for a SentencePiece model, "library_seconds": the library doing
// the same. Writes to IDS, for each text, the number of its ids and the ids, as 32-bit words.
#include <chrono>
#include <cstdio>
#include <fstream>
#include <iostream>

#include "common/json.h"
#include "common/status.h"
#include "sampler/tokenizer/sentencepiece_model.h"
#include "sampler/tokenizer/tokenizer.h"

namespace {

using moe::sampler::SentencePieceModel;

double SecondsSince(std::chrono::steady_clock::time_point start) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

// Encodes every text; -1 on an error of the library.
double TimeLibrary(const SentencePieceModel& library, const std::vector<std::string>& texts) {
  std::vector<int32_t> ids;
  const auto start = std::chrono::steady_clock::now();
  for (const std::string& text : texts) {
    if (!library.Encode(text, ids).empty()) return -1;
  }
  return SecondsSince(start);
}

absl::Status Run(const std::string& tokenizer_path, const std::string& texts_path,
                 const std::string& ids_path) {
  MOE_ASSIGN_OR_RETURN(const auto tokenizer, moe::sampler::OpenTokenizer(tokenizer_path));
  std::vector<std::string> texts;
  std::ifstream in(texts_path);
  for (std::string line; std::getline(in, line);) {
    MOE_ASSIGN_OR_RETURN(const moe::Json text, moe::ParseJson(line, texts_path));
    texts.push_back(text.get<std::string>());
  }
  if (texts.empty()) return moe::NotFound("{} has no texts", texts_path);
  std::vector<std::vector<int32_t>> ids(texts.size());
  const auto start = std::chrono::steady_clock::now();
  for (size_t i = 0; i < texts.size(); ++i) {
    MOE_ASSIGN_OR_RETURN(ids[i], tokenizer->Encode(texts[i]));
  }
  moe::Json result = {{"seconds", SecondsSince(start)}};
  if (tokenizer->files().is_sentencepiece()) {
    SentencePieceModel library;
    const std::string error = library.Load(tokenizer->files().files.at("tokenizer.model"));
    if (!error.empty()) return moe::InvalidArgument("{}: {}", tokenizer_path, error);
    result["library_seconds"] = TimeLibrary(library, texts);
  }
  std::ofstream out(ids_path, std::ios::binary);
  int64_t tokens = 0;
  for (const std::vector<int32_t>& of_text : ids) {
    const auto count = static_cast<uint32_t>(of_text.size());
    out.write(reinterpret_cast<const char*>(&count), sizeof count);
    out.write(reinterpret_cast<const char*>(of_text.data()),
              static_cast<std::streamsize>(of_text.size() * sizeof(int32_t)));
    tokens += count;
  }
  if (!out.flush()) return moe::Internal("cannot write {}", ids_path);
  result["tokens"] = tokens;
  std::cout << result.dump() << '\n';
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) {
    std::cerr << "usage: tokenize TOKENIZER TEXTS IDS\n";
    return 2;
  }
  const absl::Status status = Run(argv[1], argv[2], argv[3]);
  if (!status.ok()) std::cerr << moe::ToString(status) << '\n';
  return status.ok() ? 0 : 1;
}
