#include <filesystem>
#include <set>

#include "common/status.h"
#include "coordinator/spec/kinds.h"

namespace moe::coordinator {

const std::vector<std::string>& ComputeDtypes() {
  static const std::vector<std::string>* const kDtypes =
      new std::vector<std::string>{"bf16", "fp32"};
  return *kDtypes;
}

const std::vector<std::string>& WhichWeights() {
  static const std::vector<std::string>* const kWhich =
      new std::vector<std::string>{"latest", "average"};
  return *kWhich;
}

void CheckEvaluate(Checker& check, const Inputs& inputs, v1::EvaluateSpec& spec) {
  const ThingFacts dataset = inputs.LookAtDataset(check, "dataset", spec.dataset());
  if (!spec.has_sequence_length()) spec.set_sequence_length(512);
  if (!spec.has_max_samples_per_domain()) spec.set_max_samples_per_domain(16);
  if (!spec.has_batch_samples()) spec.set_batch_samples(4);
  if (spec.compute_dtype().empty()) spec.set_compute_dtype("bf16");
  if (!spec.has_reset_attention_mask()) spec.set_reset_attention_mask(false);
  check.Minimum<int32_t>("sequence_length", spec.sequence_length(), 2);
  check.Minimum<int32_t>("max_samples_per_domain", spec.max_samples_per_domain(), 0);
  check.Minimum<int32_t>("batch_samples", spec.batch_samples(), 1);
  check.OneOf("compute_dtype", spec.compute_dtype(), ComputeDtypes());
  if (spec.has_top_k()) check.Minimum<int32_t>("top_k", spec.top_k(), 1);
  if (spec.models().empty()) check.Fail("models is empty; give at least one model");
  std::set<std::string> labels;
  for (int i = 0; i < spec.models_size(); ++i) {
    v1::EvaluatedModel& entry = *spec.mutable_models(i);
    const std::string field = fmt::format("models.{}", i);
    const ThingFacts model = inputs.LookAtModel(check, field, entry.model());
    CheckVocabulary(check, field, model, dataset);
    if (entry.weights().empty()) entry.set_weights("latest");
    check.OneOf("models.weights", entry.weights(), WhichWeights());
    CheckSequenceLength(check, field, spec.sequence_length(), model);
    if (model.model.has_value() && model.model->num_experts > 0 &&
        spec.top_k() > model.model->num_experts) {
      check.Fail("top_k={} is above the {} experts of {}; use 1 to {}", spec.top_k(),
                 model.model->num_experts, field, model.model->num_experts);
    }
    if (entry.label().empty()) {
      entry.set_label(entry.model().has_path()
                          ? std::filesystem::path(entry.model().path()).filename().string()
                          : entry.model().artefact());
    }
    if (!labels.insert(entry.label()).second) {
      check.Fail("{}: label='{}' is used twice; give each model a label of its own", field,
                 entry.label());
    }
  }
}

}  // namespace moe::coordinator
