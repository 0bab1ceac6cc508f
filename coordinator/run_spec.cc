#include "coordinator/run_spec.h"

#include <google/protobuf/util/json_util.h>

#include "common/check.h"
#include "common/json.h"
#include "coordinator/job_spec.h"

namespace moe::coordinator {
namespace {

// The message of the job's kind.
const google::protobuf::Message& KindMessage(const v1::JobSpec& spec) {
  const google::protobuf::Reflection* reflection = spec.GetReflection();
  const google::protobuf::FieldDescriptor* field =
      reflection->GetOneofFieldDescriptor(spec, spec.GetDescriptor()->FindOneofByName("kind"));
  MOE_CHECK(field != nullptr);  // CompletePipeline requires a kind
  return reflection->GetMessage(spec, field);
}

Json ToJson(const google::protobuf::Message& message) {
  google::protobuf::util::JsonPrintOptions options;
  options.preserve_proto_field_names = true;
  options.always_print_primitive_fields = true;
  std::string text;
  MOE_CHECK(google::protobuf::util::MessageToJsonString(message, &text, options).ok());
  return Json::parse(text);
}

}  // namespace

Json DecisionJson(const v1::SamplerDecision& decision) {
  Json weights = Json::object();
  for (const v1::DecidedDomain& domain : decision.domains()) {
    weights[domain.domain()] = domain.new_weight();
  }
  return {{"version", decision.version()},
          {"step", decision.step()},
          {"first_sample", decision.first_sample()},
          {"weights", std::move(weights)}};
}

std::string BuildRunSpec(const v1::Job& job, const RunSpecFacts& facts) {
  Json spec = {
      {"format", "moe-run-spec"},
      {"version", 1},
      {"job_id", job.job_id()},
      {"job_name", job.spec().name()},
      {"attempt", job.attempt()},
      {"kind", KindName(job.spec())},
      {"world_size", facts.world_size},
      {"lease_ttl_ms", facts.lease_ttl_ms},
      {"output",
       {{"name", OutputName(job.spec())},
        {"kind", KindName(OutputKind(job.spec()))},
        {"dir", facts.output_dir}}},
      {"inputs", Json::object()},
      {"spec", ToJson(KindMessage(job.spec()))},
  };
  if (!facts.work_dir.empty()) spec["output"]["work_dir"] = facts.work_dir;
  for (const auto& [field, input] : facts.inputs) {
    Json entry = {{"path", input.path}};
    if (input.artefact.has_value()) {
      entry["artefact"] = ArtefactReference(*input.artefact);
      entry["manifest_crc32c"] = input.artefact->manifest_crc32c();
    }
    spec["inputs"][field] = std::move(entry);
  }
  if (facts.resume.has_value()) {
    spec["resume"] = {{"path", facts.resume->path()},
                      {"manifest_crc32c", facts.resume->manifest_crc32c()},
                      {"step", facts.resume->step()}};
  }
  if (!facts.reference_losses.empty()) {
    Json decisions = Json::array();
    for (const v1::SamplerDecision& decision : facts.decisions) {
      decisions.push_back(DecisionJson(decision));
    }
    spec["sampler"] = {{"reference_losses", facts.reference_losses},
                       {"decisions", std::move(decisions)}};
  }
  return spec.dump();
}

}  // namespace moe::coordinator
