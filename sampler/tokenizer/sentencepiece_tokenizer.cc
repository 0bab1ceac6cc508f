#include "sampler/tokenizer/sentencepiece_tokenizer.h"

#include <optional>

#include "common/check.h"
#include "common/json.h"
#include "common/status.h"
#include "sampler/tokenizer/sentencepiece_bpe.h"
#include "sampler/tokenizer/sentencepiece_model.h"
#include "sampler/utf8.h"

namespace moe::sampler {
namespace {

class SentencePieceTokenizer final : public Tokenizer {
 public:
  SentencePieceTokenizer(TokenizerSettings settings, TokenizerFiles files,
                         std::unique_ptr<SentencePieceModel> model)
      : Tokenizer(settings, std::move(files)),
        model_(std::move(model)),
        bpe_(SentencePieceBpe::FromModel(this->files().files.at("tokenizer.model"))) {}

  absl::StatusOr<std::vector<int32_t>> Encode(const std::string& text) const override {
    std::string repaired = text;
    RepairUtf8(repaired);
    std::vector<int32_t> ids;
    if (bpe_.has_value()) {
      ids.reserve(repaired.size() / 3);
      bpe_->Encode(repaired, ids);
      return ids;
    }
    const std::string error = model_->Encode(repaired, ids);
    if (!error.empty()) {
      return Internal("SentencePiece on a text of {} bytes: {}", text.size(), error);
    }
    return ids;
  }

  std::string Decode(std::span<const int32_t> ids) const override {
    std::vector<int32_t> inside;
    for (const int32_t id : ids) {
      if (id >= 0 && id < vocab_size()) inside.push_back(id);
    }
    std::string text;
    const std::string error = model_->Decode(inside, text);
    MOE_CHECK(error.empty());  // every id is in the vocabulary
    return text;
  }

 private:
  const std::unique_ptr<SentencePieceModel> model_;
  const std::optional<SentencePieceBpe> bpe_;  // the fast way, where the model allows it
};

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> MakeSentencePiece(TokenizerFiles files) {
  auto model = std::make_unique<SentencePieceModel>();
  const std::string error = model->Load(files.files.at("tokenizer.model"));
  if (!error.empty()) {
    return InvalidArgument("{} is not a SentencePiece model: {}", files.source, error);
  }
  TokenizerSettings settings;
  settings.vocab_size = model->vocab_size();
  settings.bos_id = model->bos_id();
  settings.eos_id = model->eos_id();
  settings.add_bos = settings.bos_id >= 0;
  if (const auto it = files.files.find("tokenizer_config.json"); it != files.files.end()) {
    MOE_ASSIGN_OR_RETURN(const Json config,
                         ParseJson(it->second, files.source + " (tokenizer_config.json)"));
    JsonReader reader(config, files.source + " (tokenizer_config.json)");
    settings.add_bos = reader.Bool("add_bos_token", settings.add_bos);
    MOE_RETURN_IF_ERROR(reader.status());
    if (settings.add_bos && settings.bos_id < 0) {
      return InvalidArgument("{}: add_bos_token is on and the model has no such token",
                             files.source);
    }
  }
  return std::unique_ptr<Tokenizer>(
      new SentencePieceTokenizer(settings, std::move(files), std::move(model)));
}

}  // namespace moe::sampler
