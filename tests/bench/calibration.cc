// Where mixtures start: the loss on held-out text before any training, for the published
// construction and for each part of calibration.
//
//   calibration MODEL DATASET THREADS [--quick]
//
// MODEL is a dense model, DATASET a dataset artefact with its vocabulary. Prints one line per
// construction and, last, one JSON object {"bench", "goals", "machine", "dense_loss",
// "recommended_loss", "rows": [{"name", "active_ffn_share", "active_parameters", "loss",
// "seconds"}]}.
#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "common/json.h"
#include "common/status.h"
#include "sampler/dataset.h"
#include "worker/construction/build.h"
#include "worker/construction/calibrate.h"
#include "worker/construction/calibration_sample.h"
#include "worker/construction/partition_model.h"
#include "worker/evaluation/perplexity.h"
#include "worker/model/model.h"
#include "worker/model/weight_source.h"
#include "worker/model/weights.h"

namespace moe {
namespace {

constexpr uint64_t kSeed = 1227;
constexpr int64_t kExperts = 16, kTopK = 4;

template <typename T>
T Must(absl::StatusOr<T> value) {
  if (!value.ok()) throw std::runtime_error(Message(value.status()));
  return *std::move(value);
}

struct Mixture {
  artefacts::ModelConfig config;
  at::Tensor parameters;
};

class Bench {
 public:
  Bench(const std::string& model, const std::string& dataset, bool quick)
      : dense_(Must(model::LoadModel(model))),
        dataset_(Must(sampler::Dataset::Open(dataset))),
        sample_BS_(Must(construction::CalibrationSample(*dataset_, quick ? 4096 : 8192, 512))),
        options_{
            .sequence_length = 512, .max_samples_per_domain = quick ? 1 : 4, .batch_samples = 1} {}

  double HeldOutLoss(const artefacts::ModelConfig& config, const at::Tensor& parameters) {
    model::Model model(config, {.compute = model::ComputeType::kFp32});
    model.SetParameters(parameters);
    double sum = 0;
    // Of the domains, so that each counts the same.
    const auto domains =
        evaluation::MeasureDomains(model, *dataset_, options_, [](int64_t) { return true; });
    for (const evaluation::DomainLoss& domain : domains) sum += domain.MeanLoss();
    return sum / static_cast<double>(domains.size());
  }
  double DenseLoss() { return HeldOutLoss(dense_.config, dense_.parameters); }

  Mixture AsPublished(double scale) const {
    artefacts::MoeConfig moe;
    moe.num_experts = kExperts;
    moe.top_k = kTopK;
    moe.score_scale_factor = scale;
    Mixture made{.config = Must(construction::MoeConfigFor(dense_.config, moe)), .parameters = {}};
    const auto partition = construction::IndependentRandom(
        dense_.config.num_layers, dense_.config.intermediate_size, kExperts, kSeed);
    made.parameters =
        construction::BuildMoe(dense_.config, dense_.parameters, made.config, partition, kSeed);
    return made;
  }

  // Parts of the recommended calibration that a row leaves out or changes.
  struct Parts {
    construction::Method method = construction::Method::kIndependentRandom;
    int64_t shared = 2;  // of the 4
    int64_t dense_layers = 3;
    bool compensate = true, fit_experts = false, mean_vector = false;
    std::string gate_network = "linear";
  };

  Mixture Calibrated(const Parts& parts) const {
    const artefacts::ModelConfig& config = dense_.config;
    const auto weights = model::ArenaWeights(config, dense_.parameters);
    construction::MethodOptions method{.method = parts.method,
                                       .num_experts = kExperts - parts.shared,
                                       .expert_width = config.intermediate_size / kExperts,
                                       .seed = kSeed};
    method.kmeans.restarts = 2;
    const std::vector<construction::Neurons> shared = construction::ImportantNeurons(
        config, dense_.parameters, sample_BS_, parts.shared * method.expert_width);
    construction::Partition partition;
    for (int64_t i = 0; i < config.num_layers; ++i) {
      partition.layers.push_back(construction::PartitionLayer(
          *weights, method, i, construction::NeuronsBut(shared[i], config.intermediate_size)));
      partition.layers.back().shared = shared[i];
    }
    const construction::CalibrationOptions options{.fit = {.top_k = kTopK - parts.shared,
                                                           .compensate = parts.compensate,
                                                           .fit_experts = parts.fit_experts,
                                                           .mean_vector = parts.mean_vector},
                                                   .gate_network = parts.gate_network,
                                                   .num_dense_layers = parts.dense_layers};
    construction::CalibratedModel made =
        construction::Calibrate(config, dense_.parameters, options, partition, sample_BS_,
                                [](int64_t, int64_t) { return true; });
    for (size_t i = 0; i < made.layers.size(); ++i) {
      const construction::CalibratedLayer& layer = made.layers[i];
      std::fprintf(stderr, "layer %2zu%s sensitivity %.3f relative error %.3f scale %.2f\n", i,
                   layer.stays_dense ? " dense" : "", layer.sensitivity, layer.relative_error,
                   layer.scale);
    }
    return {.config = made.config,
            .parameters = Must(construction::BuildArena(
                *weights, made.config, {},
                [&](int64_t layer) -> absl::StatusOr<construction::LayerPlan> {
                  return made.plans[layer];
                }))};
  }

 private:
  const model::LoadedModel dense_;
  const std::unique_ptr<sampler::Dataset> dataset_;
  const at::Tensor sample_BS_;
  const evaluation::PerplexityOptions options_;
};

// Of the dense model's FFN parameters, those that a token meets.
double ActiveFfnShare(const artefacts::ModelConfig& config) {
  const artefacts::MoeConfig& moe = config.moe;
  const double mixture = static_cast<double>(moe.top_k * moe.expert_width + moe.shared_width) /
                         static_cast<double>(config.intermediate_size);
  const double layers = static_cast<double>(config.num_layers);
  const double mixtures = static_cast<double>(config.num_moe_layers());
  return (mixtures * mixture + layers - mixtures) / layers;
}

int Main(const std::string& model, const std::string& dataset, int threads, bool quick) {
  at::set_num_threads(threads);
  Bench bench(model, dataset, quick);
  Json result = {{"dense_loss", bench.DenseLoss()}, {"rows", Json::array()}};
  std::printf("%-52s %9s %9s %7s %8s\n", "construction of 16 experts, 4 active", "FFN share",
              "active M", "loss", "seconds");
  std::printf("%-52s %9.3f %9s %7.3f\n", "dense", 1.0, "", result["dense_loss"].get<double>());
  struct Row {
    const char* name;
    std::function<Mixture()> make;
    bool is_quick = false;
    bool is_recommended = false;
  };
  const auto calibrated = [&](const Bench::Parts& parts) {
    return [&bench, parts] { return bench.Calibrated(parts); };
  };
  const std::vector<Row> rows = {
      {"paper: random experts, random gate, scale 4", [&] { return bench.AsPublished(4); }, true},
      {"the same, scale 6", [&] { return bench.AsPublished(6); }},
      {"fitted gate and scale alone",
       calibrated({.shared = 0, .dense_layers = 0, .compensate = false})},
      {"+ 2 of 4 experts shared", calibrated({.dense_layers = 0, .compensate = false})},
      {"+ compensation", calibrated({.dense_layers = 0})},
      {"+ 3 layers dense: calibrated", calibrated({}), true, true},
      {"the same with fitted experts", calibrated({.fit_experts = true})},
      {"the same with a constant vector", calibrated({.mean_vector = true})},
      {"the same with the mlp gate", calibrated({.gate_network = "mlp"})},
      {"the same, clustered experts",
       calibrated({.method = construction::Method::kIndependentClustering})},
      {"calibrated, 1 of 4 experts shared", calibrated({.shared = 1})},
      {"calibrated, 3 of 4 experts shared", calibrated({.shared = 3})},
  };
  for (const Row& row : rows) {
    if (quick && !row.is_quick) continue;
    const auto start = std::chrono::steady_clock::now();
    const Mixture made = row.make();
    const double seconds =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const double loss = bench.HeldOutLoss(made.config, made.parameters);
    const int64_t active = model::ParameterLayout(made.config).active_parameters();
    const std::string dense_layers =
        made.config.moe.dense_layers.empty()
            ? ""
            : fmt::format("  dense layers {}", fmt::join(made.config.moe.dense_layers, ", "));
    std::printf("%-52s %9.3f %9.1f %7.3f %8.1f%s\n", row.name, ActiveFfnShare(made.config),
                active / 1e6, loss, seconds, dense_layers.c_str());
    std::fflush(stdout);
    if (row.is_recommended) result["recommended_loss"] = loss;
    result["rows"].push_back({{"name", row.name},
                              {"active_ffn_share", ActiveFfnShare(made.config)},
                              {"active_parameters", active},
                              {"loss", loss},
                              {"seconds", seconds}});
  }
  const double loss = result["recommended_loss"];
  result.update(
      {{"bench", "calibration"},
       {"goals",
        {{{"name", "starting_loss"}, {"value", loss}, {"goal", 4.5}, {"met", loss <= 4.5}}}},
       {"machine", fmt::format("{} threads", threads)}});
  std::printf("%s\n", result.dump().c_str());
  return 0;
}

}  // namespace
}  // namespace moe

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: calibration MODEL DATASET THREADS [--quick]\n");
    return 2;
  }
  const bool quick = argc > 4 && std::string(argv[4]) == "--quick";
  try {
    return moe::Main(argv[1], argv[2], std::stoi(argv[3]), quick);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "calibration: %s\n", error.what());
    return 1;
  }
}
