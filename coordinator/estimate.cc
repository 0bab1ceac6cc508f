#include "coordinator/estimate.h"

#include <fmt/format.h>

#include <utility>

namespace moe::coordinator {
namespace {

planner::Machine MachineOf(const v1::Worker& worker, const v1::Slot& slot) {
  planner::Machine machine = {
      .name = fmt::format("slot of {}, {}", worker.worker_id(),
                          slot.has_speed() ? "measured" : "not measured yet"),
      .memory_bytes = slot.memory_bytes()};
  if (!slot.has_speed()) return machine;
  const v1::DeviceSpeed& speed = slot.speed();
  machine.is_measured = true;
  machine.has_bf16 = speed.has_bf16();
  machine.bf16 = {speed.bf16_flops(), speed.bf16_expert_flops(), speed.bf16_attention_flops()};
  machine.fp32 = {speed.fp32_flops(), speed.fp32_expert_flops(), speed.fp32_attention_flops()};
  machine.memory_bytes_per_s = speed.memory_bytes();
  machine.process_bytes = speed.process_bytes();
  return machine;
}

}  // namespace

std::optional<planner::Machine> LargestSlot(const v1::ListWorkersResponse& workers) {
  std::optional<planner::Machine> largest;
  for (const v1::Worker& worker : workers.workers()) {
    if (worker.state() != v1::WORKER_STATE_READY) continue;
    for (const v1::Slot& slot : worker.slots()) {
      planner::Machine machine = MachineOf(worker, slot);
      if (!largest.has_value() || std::pair(machine.memory_bytes, machine.is_measured) >
                                      std::pair(largest->memory_bytes, largest->is_measured)) {
        largest = std::move(machine);
      }
    }
  }
  return largest;
}

planner::TrainSetup SetupOf(const v1::JobSpec& spec, const artefacts::ModelConfig& model) {
  const v1::TrainSpec& train = spec.train();
  planner::TrainSetup setup = {.model = model,
                               .steps = train.steps(),
                               .sequence_length = train.sequence_length(),
                               .global_batch_samples = train.global_batch_samples(),
                               .micro_batch_samples = train.micro_batch_samples(),
                               .ranks = spec.resources().slots(),
                               .bf16 = train.compute_dtype() == "bf16"};
  setup.model.moe.add_noise = train.gate_noise();
  return setup;
}

v1::TrainEstimate Estimate(const v1::JobSpec& spec, const artefacts::ModelConfig& model,
                           const planner::Machine& machine) {
  const planner::TrainSetup setup = SetupOf(spec, model);
  const planner::TrainPlan plan = planner::PlanTraining(setup, machine);
  v1::TrainEstimate estimate;
  estimate.set_job(spec.name());
  estimate.set_machine(machine.name);
  estimate.set_ranks(spec.resources().slots());
  estimate.set_total_parameters(plan.total_parameters);
  estimate.set_active_parameters(plan.active_parameters);
  estimate.set_flops_per_token(plan.flops_per_token);
  for (const planner::MemoryPart& part : plan.memory) {
    v1::MemoryPart& out = *estimate.add_memory();
    out.set_name(part.name);
    out.set_bytes(part.bytes);
  }
  estimate.set_memory_bytes(plan.memory_bytes);
  estimate.set_memory_limit_bytes(machine.memory_bytes);
  estimate.set_step_seconds(plan.step_seconds);
  estimate.set_tokens_per_second(plan.tokens_per_second);
  estimate.set_duration_seconds(plan.duration_seconds);
  estimate.set_sent_bytes_per_step(plan.sent_bytes_per_step);
  for (const planner::BatchChoice& choice : plan.choices) {
    v1::BatchChoice& out = *estimate.add_choices();
    out.set_micro_batch_samples(static_cast<int32_t>(choice.micro_batch_samples));
    out.set_memory_bytes(choice.memory_bytes);
    out.set_fits(choice.fits);
  }
  return estimate;
}

}  // namespace moe::coordinator
