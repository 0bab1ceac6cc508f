// The switch gate: one expert per token, and as many tokens per expert as its capacity.
//
// T tokens, N experts. g are the logits of the gate network, in fp32.
//
// Source: the published code of LLaMA-MoE (SwitchBalancedGate, SwitchDropTokenCalculator), after
// Fedus et al. 2022:
//   z = g + Gumbel(0, 1) in training; the expert is argmax z, its score is that z, not a
//   probability importance_e = mean over tokens of softmax(g)_e, load_e = share of the tokens
//   balance = weight N sum importance_e load_e
// Differs: no noise in evaluation; of an expert's tokens above its capacity those with the lowest
// scores get no expert, where the published code draws which; the lower token wins a tie.
#pragma once

#include <cstdint>
#include <vector>

#include "storage/artefacts/model_config.h"
#include "worker/model/gate.h"

namespace moe::model {

// Tokens that an expert takes of T at most.
int64_t SwitchCapacity(const artefacts::MoeConfig& config, int64_t tokens);

// Fills in what follows from result.logits. standard_normal_TN are draws that are turned into
// Gumbel ones of equal probability, or null for a pass without noise. What `routed` and `load`
// count is what the gate wants: tokens that their expert has no room for are among them.
void SwitchForward(const artefacts::MoeConfig& config, const float* standard_normal_TN,
                   GateResult& result);

// The gradient by the logits is written to dlogits_TN. dscores_T is that of the loss by the scores;
// balance_weight that by the balance loss, times the config's weight.
void SwitchBackward(const GateResult& result, const float* dscores_T, double balance_weight,
                    std::vector<float>& dlogits_TN);

}  // namespace moe::model
