#include "worker/training/step_report.h"

namespace moe::training {

Json ToJson(const StepReport& report) {
  Json routing = Json::array();
  for (const model::LayerRouting& layer : report.routing) {
    routing.push_back(
        {{"load", layer.load}, {"importance", layer.importance}, {"dropped", layer.dropped}});
  }
  Json domains = Json::array();
  for (const StepReport::Domain& domain : report.domains) {
    Json entry = {{"domain", domain.name},
                  {"samples", domain.samples},
                  {"weight", domain.weight},
                  {"epochs", domain.epochs}};
    if (domain.loss.has_value()) entry["loss"] = *domain.loss;
    if (domain.heldout_loss.has_value()) entry["heldout_loss"] = *domain.heldout_loss;
    domains.push_back(std::move(entry));
  }
  return {{"step", report.step},
          {"loss", report.loss},
          {"balance_loss", report.balance_loss},
          {"learning_rate", report.learning_rate},
          {"gradient_norm", report.gradient_norm},
          {"tokens", report.tokens},
          {"step_seconds", report.step_seconds},
          {"tokens_per_second", report.tokens_per_second},
          {"routing", std::move(routing)},
          {"domains", std::move(domains)},
          {"batch_crc32c", report.batch_crc32c},
          {"skipped", report.skipped},
          {"model_flops_per_second", report.model_flops_per_second},
          {"model_flops_utilisation", report.model_flops_utilisation},
          {"sampler_version", report.sampler_version},
          {"target_tokens", report.target_tokens},
          {"sent_bytes", report.sent_bytes},
          {"communication_seconds", report.communication_seconds}};
}

}  // namespace moe::training
