#include "worker/model/rope_frequencies.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace moe::model {
namespace {

using artefacts::RopeScaling;

// The base whose lowest frequency spans the longer sequence (NTK-aware interpolation).
double DynamicTheta(const artefacts::ModelConfig& config, int64_t longest) {
  const RopeScaling& scaling = config.rope_scaling;
  const double original = static_cast<double>(scaling.original_context);
  const double length = std::max(static_cast<double>(longest), original);
  const double head_dim = static_cast<double>(config.head_dim);
  return config.rope_theta * std::pow(scaling.factor * length / original - (scaling.factor - 1.0),
                                      head_dim / (head_dim - 2.0));
}

double Llama3Frequency(const RopeScaling& scaling, double frequency) {
  const double original = static_cast<double>(scaling.original_context);
  const double turns = original * frequency / (2.0 * std::numbers::pi);  // within that context
  if (turns < scaling.low_freq_factor) return frequency / scaling.factor;
  if (turns > scaling.high_freq_factor) return frequency;
  const double kept =
      (turns - scaling.low_freq_factor) / (scaling.high_freq_factor - scaling.low_freq_factor);
  return (1.0 - kept) * frequency / scaling.factor + kept * frequency;
}

}  // namespace

std::vector<double> RopeFrequencies(const artefacts::ModelConfig& config, int64_t longest) {
  const RopeScaling& scaling = config.rope_scaling;
  const double theta =
      scaling.type == "dynamic" ? DynamicTheta(config, longest) : config.rope_theta;
  std::vector<double> frequencies(static_cast<size_t>(config.head_dim / 2));
  for (size_t i = 0; i < frequencies.size(); ++i) {
    const double frequency =
        std::pow(theta, -2.0 * static_cast<double>(i) / static_cast<double>(config.head_dim));
    frequencies[i] = scaling.type == "linear"   ? frequency / scaling.factor
                     : scaling.type == "llama3" ? Llama3Frequency(scaling, frequency)
                                                : frequency;
  }
  return frequencies;
}

}  // namespace moe::model
