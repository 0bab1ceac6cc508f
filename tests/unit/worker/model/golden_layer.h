// The inputs of the golden numbers: a gate and a layer small enough to print, run once through the
// published Python implementation of LLaMA-MoE (torch 1.13.1, CPU, fp32).
//
// d = 4, N = 4, k = 2, T = 6, expert width 2.
#pragma once

#include <cmath>
#include <cstdint>
#include <vector>

#include "storage/artefacts/model_config.h"
#include "worker/model/gate.h"

namespace moe::model::testing {

inline constexpr int64_t kTokens = 6, kHidden = 4, kExperts = 4, kWidth = 2;

// Element i is amplitude * sin(phase + step * i).
inline std::vector<float> Sines(int64_t count, double phase, double amplitude = 1,
                                double step = 0.7) {
  std::vector<float> values(count);
  for (int64_t i = 0; i < count; ++i) {
    values[i] = static_cast<float>(amplitude * std::sin(phase + step * static_cast<double>(i)));
  }
  return values;
}

struct GoldenLayer {
  std::vector<float> x = Sines(kTokens * kHidden, 0.3);
  std::vector<float> router_0 = Sines(kExperts * kHidden, 1.1);
  std::vector<float> router_2 = Sines(kExperts * kExperts, 2.2);
  std::vector<float> noise_weight = Sines(kExperts * kHidden, 0.5, 0.5);
  std::vector<float> draws = Sines(kTokens * kExperts, 0.9, 1.3, 1.9);
  std::vector<float> gate_up, down;  // [N, 2 n, d], [N, d, n]
  artefacts::MoeConfig config;

  GoldenLayer() {
    for (int64_t e = 0; e < kExperts; ++e) {
      const double shift = static_cast<double>(e);
      Append(Sines(kWidth * kHidden, 0.2 + shift), gate_up);
      Append(Sines(kWidth * kHidden, 0.7 + shift), gate_up);
      Append(Sines(kHidden * kWidth, 0.45 + shift), down);
    }
    config.num_experts = kExperts;
    config.top_k = 2;
    config.expert_width = kWidth;
    config.score_scale_factor = 2.0;
  }

  GateWeights MlpGate() const { return {router_0.data(), router_2.data(), noise_weight.data()}; }
  GateWeights LinearGate() const { return {router_0.data(), nullptr, noise_weight.data()}; }

 private:
  static void Append(const std::vector<float>& from, std::vector<float>& to) {
    to.insert(to.end(), from.begin(), from.end());
  }
};

}  // namespace moe::model::testing
