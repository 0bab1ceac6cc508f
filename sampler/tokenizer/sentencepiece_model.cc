#include "sampler/tokenizer/sentencepiece_model.h"

#include <sentencepiece_processor.h>

namespace moe::sampler {
namespace {

std::string ErrorOf(const sentencepiece::util::Status& status) {
  return status.ok() ? "" : status.ToString();
}

}  // namespace

class SentencePieceModel::Impl {
 public:
  sentencepiece::SentencePieceProcessor processor;
};

SentencePieceModel::SentencePieceModel() : impl_(std::make_unique<Impl>()) {}
SentencePieceModel::~SentencePieceModel() = default;

std::string SentencePieceModel::Load(const std::string& serialized) {
  return ErrorOf(impl_->processor.LoadFromSerializedProto(serialized));
}

std::string SentencePieceModel::Encode(const std::string& text, std::vector<int32_t>& ids) const {
  return ErrorOf(impl_->processor.Encode(text, &ids));
}

std::string SentencePieceModel::Decode(const std::vector<int32_t>& ids, std::string& text) const {
  return ErrorOf(impl_->processor.Decode(ids, &text));
}

int64_t SentencePieceModel::vocab_size() const { return impl_->processor.GetPieceSize(); }
int32_t SentencePieceModel::bos_id() const { return impl_->processor.bos_id(); }
int32_t SentencePieceModel::eos_id() const { return impl_->processor.eos_id(); }

}  // namespace moe::sampler
