#include "common/status.h"
#include "coordinator/spec/kinds.h"

namespace moe::coordinator {
namespace {

const std::vector<std::string> kExportDtypes = {"fp32", "bf16", "fp16"};
const std::vector<std::string> kExportFormats = {"llama-moe", "mixtral", "qwen2-moe", "llama"};

}  // namespace

void CheckExport(Checker& check, const Inputs& inputs, v1::ExportSpec& spec, ThingFacts& output) {
  const ThingFacts model = inputs.LookAtModel(check, "model", spec.model());
  if (spec.weights().empty()) spec.set_weights("latest");
  check.OneOf("weights", spec.weights(), WhichWeights());
  if (spec.dtype().empty()) spec.set_dtype("bf16");
  check.OneOf("dtype", spec.dtype(), kExportDtypes);
  const bool known_dense = model.model.has_value() && model.model->num_experts == 0;
  if (spec.format().empty()) spec.set_format(known_dense ? "llama" : "llama-moe");
  check.OneOf("format", spec.format(), kExportFormats);
  if (known_dense && spec.format() != "llama") {
    check.Fail("format='{}' is for mixtures of experts and the model is dense; use llama",
               spec.format());
  }
  output.model = model.model;
  if (output.model.has_value() && spec.format() == "llama") output.model->num_experts = 0;
}

}  // namespace moe::coordinator
