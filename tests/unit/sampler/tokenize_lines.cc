// Prints the token ids of texts, for comparison with another tokenizer (tests/numerics):
//   tokenize_lines TOKENIZER <texts.jsonl     one JSON string a line; out: one list of ids a line
//   tokenize_lines TOKENIZER --write FOLDER   writes the tokenizer as Hugging Face files
#include <cstdio>
#include <iostream>
#include <string>

#include "common/file.h"
#include "common/json.h"
#include "common/status.h"
#include "sampler/tokenizer/tokenizer.h"

namespace {

absl::Status Run(const std::string& path, const std::string& folder) {
  MOE_ASSIGN_OR_RETURN(const auto tokenizer, moe::sampler::OpenTokenizer(path));
  if (!folder.empty()) {
    MOE_RETURN_IF_ERROR(moe::MakeDirectories(folder));
    return moe::sampler::WriteTokenizerFiles(tokenizer->files(), folder);
  }
  for (std::string line; std::getline(std::cin, line);) {
    MOE_ASSIGN_OR_RETURN(const moe::Json text, moe::ParseJson(line, "input"));
    if (!text.is_string()) return moe::InvalidArgument("expected a JSON string, got {}", line);
    MOE_ASSIGN_OR_RETURN(const std::vector<int32_t> ids,
                         tokenizer->Encode(text.get<std::string>()));
    std::cout << moe::Json(ids).dump() << '\n';
  }
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  const bool write = argc == 4 && std::string(argv[2]) == "--write";
  if (argc != 2 && !write) {
    std::cerr << "usage: tokenize_lines TOKENIZER [--write FOLDER] <texts.jsonl\n";
    return 2;
  }
  std::ios::sync_with_stdio(false);
  const absl::Status status = Run(argv[1], write ? argv[3] : "");
  if (!status.ok()) std::cerr << moe::ToString(status) << '\n';
  return status.ok() ? 0 : 1;
}
