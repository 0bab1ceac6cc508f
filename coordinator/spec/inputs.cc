#include "coordinator/spec/inputs.h"

#include <google/protobuf/util/json_util.h>

#include <algorithm>
#include <optional>
#include <string>

#include "common/json.h"
#include "common/status.h"
#include "storage/artefacts/model_config.h"

namespace moe::coordinator {
namespace {

double NumberIn(const google::protobuf::Struct& metadata, const std::string& key) {
  const auto it = metadata.fields().find(key);
  return it == metadata.fields().end() ? 0 : it->second.number_value();
}

// The model's config, which is part of the metadata of models and checkpoints.
std::optional<artefacts::ModelConfig> ShapeIn(const google::protobuf::Struct& metadata) {
  std::string text;
  if (!google::protobuf::util::MessageToJsonString(metadata, &text).ok()) return std::nullopt;
  const Json json = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  const auto shape = artefacts::ParseHfConfig(json, "metadata");
  if (!shape.ok()) return std::nullopt;  // an estimate less; nothing else depends on it
  return *shape;
}

}  // namespace

ThingFacts FactsOf(const v1::Artefact& artefact) {
  ThingFacts facts;
  facts.kind = artefact.kind();
  facts.vocabulary = VocabularyOf(artefact);
  facts.step = artefact.step();
  const google::protobuf::Struct& metadata = artefact.metadata();
  if (artefact.kind() == v1::ARTEFACT_KIND_DATASET) {
    facts.conversations = metadata.fields().contains("conversations");
    const auto domains = metadata.fields().find("domains");
    if (domains != metadata.fields().end()) {
      for (const auto& entry : domains->second.list_value().values()) {
        const auto& fields = entry.struct_value().fields();
        const auto name = fields.find("name");
        if (name != fields.end()) facts.domains.push_back(name->second.string_value());
      }
    }
  } else if (facts.vocabulary.has_value()) {
    ModelFacts model;
    model.vocab_size = facts.vocabulary->size;
    model.tokenizer_crc32c = facts.vocabulary->tokenizer_crc32c;
    model.intermediate_size = static_cast<int64_t>(NumberIn(metadata, "intermediate_size"));
    model.context_length = static_cast<int64_t>(NumberIn(metadata, "max_position_embeddings"));
    model.num_layers = static_cast<int64_t>(NumberIn(metadata, "num_hidden_layers"));
    model.num_experts = static_cast<int64_t>(NumberIn(metadata, "num_experts"));
    model.shape = ShapeIn(metadata);
    if (model.shape.has_value()) model.context_length = model.shape->context_length;
    facts.model = model;
  }
  return facts;
}

ThingFacts Inputs::Look(Checker& check, const std::string& field, const v1::InputRef& input,
                        const std::vector<v1::ArtefactKind>& kinds, bool is_model) const {
  ThingFacts facts;
  switch (input.source_case()) {
    case v1::InputRef::kPath: {
      if (input.path().empty() || input.path()[0] != '/') {
        check.Fail("{}='{}' is not an absolute path; workers run in folders of their own", field,
                   input.path());
        return facts;
      }
      bool is_empty = false;
      check.Fail(outside_.CheckReadable(input.path(), &is_empty), field);
      if (is_empty) check.Fail("{}={} is empty", field, input.path());
      if (is_model && check.status().ok()) {
        const absl::StatusOr<ModelFacts> model = outside_.ReadModel(input.path());
        check.Fail(model.status(), field);
        if (model.ok()) facts.model = *model;
      }
      return facts;
    }
    case v1::InputRef::kArtefact: {
      if (const ThingFacts* output = FindOutput(input.artefact())) {
        facts = *output;
      } else if (const v1::Artefact* artefact = outside_.FindArtefact(input.artefact())) {
        facts = FactsOf(*artefact);
      } else {
        check.Fail(
            "{}='{}' is neither an output of this pipeline nor in the catalogue; list what "
            "is there with: moectl artefact list{}",
            field, input.artefact(), Suggestion(input.artefact(), OutputNames()));
        return facts;
      }
      if (std::find(kinds.begin(), kinds.end(), *facts.kind) == kinds.end()) {
        std::vector<std::string> names;
        for (const v1::ArtefactKind kind : kinds) names.push_back(KindName(kind));
        check.Fail("{}='{}' is a {}; give a {}", field, input.artefact(), KindName(*facts.kind),
                   fmt::join(names, " or a "));
      }
      return facts;
    }
    case v1::InputRef::SOURCE_NOT_SET:
      check.Fail("{} is missing; give a path or an artefact", field);
      return facts;
  }
  return facts;
}

ThingFacts Inputs::LookAtModel(Checker& check, const std::string& field,
                               const v1::InputRef& input) const {
  return Look(check, field, input, {v1::ARTEFACT_KIND_MODEL, v1::ARTEFACT_KIND_CHECKPOINT},
              /*is_model=*/true);
}

ThingFacts Inputs::LookAtDataset(Checker& check, const std::string& field,
                                 const v1::InputRef& input) const {
  return Look(check, field, input, {v1::ARTEFACT_KIND_DATASET}, /*is_model=*/false);
}

// As far as both are known.
void CheckVocabulary(Checker& check, const std::string& field, const ThingFacts& model,
                     const ThingFacts& dataset) {
  if (!model.model.has_value() || !dataset.vocabulary.has_value()) return;
  const absl::Status status = artefacts::CheckVocabulary(
      "the dataset", *dataset.vocabulary, field,
      {.size = model.model->vocab_size, .tokenizer_crc32c = model.model->tokenizer_crc32c});
  if (!status.ok()) check.Fail("{}", Message(status));
}

void CheckSequenceLength(Checker& check, const std::string& field, int32_t length,
                         const ThingFacts& model) {
  if (!model.model.has_value() || model.model->context_length <= 0) return;
  if (length > model.model->context_length) {
    check.Fail("sequence_length={} is above the context of {}, {}; use 2 to {}", length, field,
               model.model->context_length, model.model->context_length);
  }
}

std::optional<artefacts::Vocabulary> VocabularyOf(const v1::Artefact& artefact) {
  artefacts::Vocabulary vocabulary;
  vocabulary.size = static_cast<int64_t>(NumberIn(artefact.metadata(), "vocab_size"));
  if (vocabulary.size <= 0) return std::nullopt;
  if (artefact.metadata().fields().contains("tokenizer_crc32c")) {
    vocabulary.tokenizer_crc32c =
        static_cast<uint32_t>(NumberIn(artefact.metadata(), "tokenizer_crc32c"));
  }
  return vocabulary;
}

}  // namespace moe::coordinator
