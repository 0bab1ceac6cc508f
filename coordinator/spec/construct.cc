#include "common/status.h"
#include "coordinator/spec/kinds.h"

namespace moe::coordinator {
namespace {

const std::vector<std::string> kMethods = {"independent-random"};
const std::vector<std::string> kGateNetworks = {"mlp", "linear"};

std::string DivisorsOf(int64_t width) {
  std::vector<int64_t> divisors;
  for (int64_t n = 2; n <= width && divisors.size() < 12; ++n) {
    if (width % n == 0) divisors.push_back(n);
  }
  return fmt::format("{}{}", fmt::join(divisors, ", "), divisors.size() == 12 ? ", ..." : "");
}

// Layers that may stay dense by default: as many in proportion as lets SmolLM2 start near its dense
// model.
constexpr double kDefaultDenseLayers = 0.1;

void CheckCalibration(Checker& check, const Inputs& inputs, const ThingFacts& model,
                      v1::ConstructSpec& spec) {
  v1::Calibration& calibrate = *spec.mutable_calibrate();
  const ThingFacts dataset = inputs.LookAtDataset(check, "calibrate.dataset", calibrate.dataset());
  CheckVocabulary(check, "calibrate.dataset", model, dataset);
  const double routed_share = static_cast<double>(spec.top_k()) / spec.num_experts();
  if (!calibrate.has_tokens()) calibrate.set_tokens(8192);
  if (!calibrate.has_shared_experts()) calibrate.set_shared_experts(spec.top_k() / 2);
  if (!calibrate.has_active_ffn_share()) {
    calibrate.set_active_ffn_share(routed_share + kDefaultDenseLayers * (1 - routed_share));
  }
  if (!calibrate.has_compensate()) calibrate.set_compensate(true);
  if (!calibrate.has_mean_vector()) calibrate.set_mean_vector(false);
  check.Range<int32_t>("calibrate.tokens", calibrate.tokens(), 1024, 1 << 20);
  check.Range<int32_t>("calibrate.shared_experts", calibrate.shared_experts(), 0, spec.top_k() - 1);
  check.Range<double>("calibrate.active_ffn_share", calibrate.active_ffn_share(), routed_share, 1);
}

}  // namespace

void CheckConstruct(Checker& check, const Inputs& inputs, v1::ConstructSpec& spec,
                    ThingFacts& output) {
  const ThingFacts model = inputs.LookAtModel(check, "model", spec.model());
  check.OneOf("method", spec.method(), kMethods);
  if (!spec.has_num_experts()) spec.set_num_experts(16);
  if (!spec.has_top_k()) spec.set_top_k(4);
  if (spec.gate_network().empty()) spec.set_gate_network("mlp");
  if (!spec.has_seed()) spec.set_seed(kDefaultSeed);
  check.Range<int32_t>("num_experts", spec.num_experts(), 1, 4096);
  check.Minimum<int32_t>("top_k", spec.top_k(), 1);
  if (spec.top_k() > spec.num_experts()) {
    check.Fail("top_k={} is above num_experts={}; use 1 to {}", spec.top_k(), spec.num_experts(),
               spec.num_experts());
  }
  if (model.model.has_value()) {
    if (model.model->num_experts > 0) {
      check.Fail("model is a mixture of {} experts already; give a dense model",
                 model.model->num_experts);
    }
    const int64_t width = model.model->intermediate_size;
    if (width > 0 && spec.num_experts() > 0 && width % spec.num_experts() != 0) {
      check.Fail("num_experts={} does not divide the FFN width {}; use one of {}",
                 spec.num_experts(), width, DivisorsOf(width));
    }
  }
  if (!check.status().ok()) return;
  if (!spec.has_score_scale_factor()) {
    spec.set_score_scale_factor(static_cast<double>(spec.num_experts()) / spec.top_k());
  }
  check.Positive("score_scale_factor", spec.score_scale_factor());
  check.OneOf("gate_network", spec.gate_network(), kGateNetworks);
  check.Minimum<int64_t>("seed", spec.seed(), 0);
  if (!spec.has_learn_scale()) spec.set_learn_scale(false);
  if (spec.has_calibrate()) CheckCalibration(check, inputs, model, spec);
  output.model = model.model;
  if (!output.model.has_value()) return;
  const int32_t shared = spec.calibrate().shared_experts();
  output.model->num_experts = spec.num_experts() - shared;
  if (!output.model->shape.has_value()) return;
  artefacts::MoeConfig& moe = output.model->shape->moe;
  moe.num_experts = output.model->num_experts;
  moe.top_k = spec.top_k() - shared;
  moe.expert_width = output.model->shape->intermediate_size / spec.num_experts();
  moe.shared_width = shared * moe.expert_width;
  moe.gate_network = spec.gate_network();
}

}  // namespace moe::coordinator
