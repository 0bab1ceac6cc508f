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
  machine.bf16 = {.dense_flops = speed.bf16_flops(),
                  .expert_flops = speed.bf16_expert_flops(),
                  .attention_flops = speed.bf16_attention_flops(),
                  .head_flops = speed.bf16_head_flops(),
                  .pass_ratio = speed.bf16_pass_ratio()};
  machine.fp32 = {.dense_flops = speed.fp32_flops(),
                  .expert_flops = speed.fp32_expert_flops(),
                  .attention_flops = speed.fp32_attention_flops(),
                  .head_flops = speed.fp32_head_flops(),
                  .pass_ratio = speed.fp32_pass_ratio()};
  machine.memory_bytes_per_s = speed.memory_bytes();
  machine.process_bytes = speed.process_bytes();
  return machine;
}

}  // namespace

std::optional<planner::Machine> LargestSlot(const WorkerRegistry& workers,
                                            int64_t monotonic_millis) {
  const v1::Worker* of = nullptr;
  const v1::Slot* largest = nullptr;
  workers.ForEachReady(monotonic_millis, [&](const v1::Worker& worker) {
    for (const v1::Slot& slot : worker.slots()) {
      if (largest == nullptr || std::pair(slot.memory_bytes(), slot.has_speed()) >
                                    std::pair(largest->memory_bytes(), largest->has_speed())) {
        of = &worker;
        largest = &slot;
      }
    }
  });
  if (largest == nullptr) return std::nullopt;
  return MachineOf(*of, *largest);
}

planner::TrainSetup SetupOf(const v1::JobSpec& spec, const artefacts::ModelConfig& model) {
  const v1::TrainSpec& train = *TrainSettings(spec);
  planner::TrainSetup setup = {
      .model = model,
      .steps = train.steps(),
      .sequence_length = train.sequence_length(),
      .global_batch_samples = train.global_batch_samples(),
      .micro_batch_samples = train.micro_batch_samples(),
      .ranks = spec.resources().slots(),
      .expert_parallel = train.has_parallel() ? train.parallel().expert() : 1,
      .bf16 = train.compute_dtype() == "bf16",
      .keeps_average = train.has_weight_average()};
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
  estimate.set_all_to_all_bytes_per_step(plan.all_to_all_bytes_per_step);
  for (const planner::BatchChoice& choice : plan.choices) {
    v1::BatchChoice& out = *estimate.add_choices();
    out.set_micro_batch_samples(static_cast<int32_t>(choice.micro_batch_samples));
    out.set_memory_bytes(choice.memory_bytes);
    out.set_fits(choice.fits);
  }
  return estimate;
}

}  // namespace moe::coordinator
