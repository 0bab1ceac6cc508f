// One layer's parameters, or their gradients, as views of arenas.
#pragma once

#include <ATen/core/Tensor.h>

#include <string>

#include "storage/artefacts/model_config.h"
#include "worker/model/arena.h"
#include "worker/model/parameters.h"

namespace moe::model::device {

// Shapes as in worker/model/parameters.h; undefined where the layer has no such parameter.
struct LayerTensors {
  // Products are made with these.
  at::Tensor qkv, attn_out;
  at::Tensor gate_up, down;  // of all experts, where the layer has some
  at::Tensor shared_gate_up, shared_down;
  // fp32.
  at::Tensor attn_norm, ffn_norm, router_0, router_2, noise, output_bias;
  at::Tensor scale;  // [1], on every routed expert's output

  bool is_moe() const { return router_0.defined(); }
};

// `master` is an fp32 arena, `compute` one in the type of products; the same one for gradients.
inline LayerTensors LayerOf(const ParameterLayout& layout, const artefacts::ModelConfig& config,
                            int64_t index, const at::Tensor& master, const at::Tensor& compute) {
  const std::string prefix = "layers." + std::to_string(index) + ".";
  const std::string ffn = config.is_moe_layer(index) ? prefix + "experts." : prefix;
  const auto view = [&](const at::Tensor& arena, const std::string& name) {
    return layout.Has(name) ? View(arena, layout.Find(name)) : at::Tensor();
  };
  return {.qkv = view(compute, prefix + "qkv"),
          .attn_out = view(compute, prefix + "attn_out"),
          .gate_up = view(compute, ffn + "gate_up"),
          .down = view(compute, ffn + "down"),
          .shared_gate_up = view(compute, prefix + "shared.gate_up"),
          .shared_down = view(compute, prefix + "shared.down"),
          .attn_norm = view(master, prefix + "attn_norm"),
          .ffn_norm = view(master, prefix + "ffn_norm"),
          .router_0 = view(master, prefix + "router.0"),
          .router_2 = view(master, prefix + "router.2"),
          .noise = view(master, prefix + "noise"),
          .output_bias = view(master, prefix + "output_bias"),
          .scale = view(master, prefix + "scale")};
}

}  // namespace moe::model::device
