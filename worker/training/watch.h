// What a run does about steps that went wrong: losses and gradients that are not finite, loss
// spikes, experts that nothing is sent to. Pure: numbers in, verdicts out, the same on every rank.
#pragma once

#include <cstdint>
#include <deque>
#include <string>
#include <vector>

#include "worker/model/model.h"

namespace moe::training {

enum class WatchAction {
  kReport,    // make the update, tell people
  kSkip,      // leave the update out; the next batch is another one
  kRollback,  // as kSkip, and go back to the state of the last checkpoint
  kStop,      // the run fails
};

// WatchPolicy of proto/moe/v1/job_spec.proto.
struct WatchPolicy {
  WatchAction on_non_finite = WatchAction::kSkip;
  WatchAction on_loss_spike = WatchAction::kReport;
  double spike_deviations = 6.0;
  int64_t window_steps = 32;
  int64_t max_bad_steps = 5;
  double dead_expert_share = 0.01;
};

enum class Trouble { kNone, kNonFinite, kLossSpike };

struct Verdict {
  Trouble trouble = Trouble::kNone;
  WatchAction action = WatchAction::kReport;
  std::string text;  // what was seen, with value and limit; empty without trouble
};

// "non_finite", "loss_spike".
const char* TroubleName(Trouble trouble);

// What decides future verdicts: part of a checkpoint, so that a resumed run decides as the
// undisturbed one.
struct WatchState {
  std::deque<double> recent_losses;  // of updates that were made, at most window_steps
  int64_t bad_steps = 0;             // in a row, up to now
};

// Judges a step before its update. A spike needs a full window. The action is kStop where
// max_bad_steps in a row are reached. `state` takes the step in.
Verdict JudgeStep(const WatchPolicy& policy, int64_t step, double loss, double balance_loss,
                  double gradient_norm, WatchState& state);

// Looks at where tokens go, over windows that follow each other. Reports only, so it need not
// survive a resume.
class RoutingWatch {
 public:
  explicit RoutingWatch(const WatchPolicy& policy) : policy_(policy) {}

  struct Warning {
    std::string kind;  // "dead_experts" or "router_collapse"
    std::string text;
  };
  // Takes a step in; at the end of a window, says which experts got less than dead_expert_share of
  // an equal share of the tokens, and in which layers nearly all tokens went to the same top_k.
  std::vector<Warning> Observe(const std::vector<model::LayerRouting>& routing, int64_t top_k);

 private:
  const WatchPolicy policy_;
  int64_t steps_ = 0;
  std::vector<std::vector<int64_t>> loads_;  // [layer][expert], of the window
};

}  // namespace moe::training
