// Calibrated construction: a mixture that starts near its dense model, from a few thousand tokens
// and without training.
//
// First every layer's sensitivity is measured: the loss of the dense model with that layer alone
// made into experts. The most sensitive stay dense. Then the others are fitted from the bottom,
// each on what reaches it through the fitted layers below, so that no layer is fitted to inputs
// that it will never see. Cost: about three passes of the sample, and L / 2 of a part of it for the
// sensitivities, L layers.
//
// Equal inputs give equal results with the same number of threads.
#pragma once

#include <ATen/core/Tensor.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "storage/artefacts/model_config.h"
#include "worker/construction/build.h"
#include "worker/construction/fit_layer.h"

namespace moe::construction {

struct CalibrationOptions {
  FitOptions fit;
  std::string gate_network = "mlp";
  bool learn_scale = false;
  std::vector<int64_t> dense_layers = {};  // ascending: that keep their FFN in any case
  int64_t num_dense_layers = 0;            // those with them; the rest is chosen
};

// Layers that can stay dense where a token may meet `active_ffn_share` of all FFN parameters and
// meets `mixture_share` of those of a layer with experts. Both from 0 to 1.
int64_t NumDenseLayers(double active_ffn_share, double mixture_share, int64_t num_layers);

struct CalibratedLayer {
  bool stays_dense = false;
  double sensitivity = 0;     // loss above the dense model's; 0 where none was to be chosen
  double relative_error = 0;  // |output - dense output|^2 / |dense output|^2, on the sample
  double scale = 0;
};

struct CalibratedModel {
  artefacts::ModelConfig config;
  std::vector<LayerPlan> plans;  // one per layer, empty where it stays dense: for Build
  std::vector<CalibratedLayer> layers;
  double dense_loss = 0;  // on the sample
  double loss = 0;        // of the mixture, on the sample
};

// The `count` neurons of each layer that predict its output best, ascending: to be shared. One pass
// of the sample, tokens_BS, int64, through the dense model; count 0 costs nothing.
std::vector<Neurons> NeuronsToShare(const artefacts::ModelConfig& dense,
                                    const at::Tensor& dense_parameters, const at::Tensor& tokens_BS,
                                    int64_t count);

// Fits the experts of `partition`, all layers of which have equally many of equal size. `progress`
// is called with steps done and all steps, and may return false to stop; then the result has no
// plans.
CalibratedModel Calibrate(const artefacts::ModelConfig& dense, const at::Tensor& dense_parameters,
                          const CalibrationOptions& options, const Partition& partition,
                          const at::Tensor& tokens_BS,
                          const std::function<bool(int64_t, int64_t)>& progress);

}  // namespace moe::construction
