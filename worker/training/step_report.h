// What rank 0 says of a training step: moe.v1.StepReport as a struct and as JSON.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "common/json.h"
#include "worker/model/model.h"

namespace moe::training {

struct StepReport {
  struct Domain {
    std::string name;
    int64_t samples = 0;         // since the start of the run
    std::optional<double> loss;  // mean over this step's samples, nats; none where there were none
    double weight = 0;           // share that the step was drawn with
    double epochs = 0;           // how often the domain has been gone through
    // On held-out text after this step; none where it was not measured.
    std::optional<double> heldout_loss = std::nullopt;
  };

  int64_t step = 0;          // from 1
  double loss = 0;           // mean over the global batch, nats
  double balance_loss = 0;   // weighted, summed over layers, mean over micro-batches
  double learning_rate = 0;  // used in this step
  double gradient_norm = 0;  // global, before clipping
  int64_t tokens = 0;        // since the start of the run, this step included
  double step_seconds = 0;
  double tokens_per_second = 0;              // of this step, over all ranks
  std::vector<model::LayerRouting> routing;  // per layer, over the global batch
  std::vector<Domain> domains;               // in the dataset's order
  // Of the token ids of the global batch in sample order, as 64-bit little-endian integers.
  uint32_t batch_crc32c = 0;
  std::string skipped;                 // "non_finite", "loss_spike"; empty: the update was made
  double model_flops_per_second = 0;   // over all ranks
  double model_flops_utilisation = 0;  // 0 where the ranks' peak is not known
  int64_t sampler_version = 0;         // of the domain weights; 0 for the job's own
  int64_t target_tokens = 0;           // that counted in the loss
  int64_t sent_bytes = 0;              // by this rank
  double communication_seconds = 0;    // that the step waited for other ranks
};

// The body of a `step` report (docs/formats/run-folder.md).
Json ToJson(const StepReport& report);

}  // namespace moe::training
