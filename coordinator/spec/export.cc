#include "common/status.h"
#include "coordinator/spec/kinds.h"

namespace moe::coordinator {
namespace {

const std::vector<std::string> kExportDtypes = {"fp32", "bf16", "fp16"};

}  // namespace

void CheckExport(Checker& check, const Inputs& inputs, v1::ExportSpec& spec, ThingFacts& output) {
  const ThingFacts model = inputs.LookAtModel(check, "model", spec.model());
  if (spec.dtype().empty()) spec.set_dtype("bf16");
  check.OneOf("dtype", spec.dtype(), kExportDtypes);
  output.model = model.model;
}

}  // namespace moe::coordinator
