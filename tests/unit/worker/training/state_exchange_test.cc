#include "worker/training/state_exchange.h"

#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/randn.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <mutex>
#include <vector>

#include "tests/unit/worker/parallel/run_ranks.h"
#include "tests/unit/worker/training/tiny_run.h"
#include "worker/parallel/single_rank.h"

namespace moe::training {
namespace {

constexpr int64_t kTimeoutMs = 20'000;

// Several buckets: an embedding of 8 M elements, layers of 0.9 M.
artefacts::ModelConfig Config() {
  artefacts::ModelConfig config = TinyMoe();
  config.vocab_size = 16384;
  config.hidden_size = 512;
  config.num_layers = 8;
  config.tie_word_embeddings = false;
  config.moe.expert_width = 128;
  return config;
}

class StateExchangeTest : public testing::TestWithParam<int> {
 protected:
  // What a trainer does in a step, with `gradients` as they are.
  static void Reduce(StateExchange& exchange, at::Tensor& gradients, int64_t num_layers) {
    for (int64_t layer = num_layers; layer >= -1; --layer) {
      exchange.GradientsComplete(gradients, layer, /*step=*/1, [](parallel::Range) {});
    }
    exchange.WaitForGradients();
  }

  const model::ParameterLayout layout_{Config()};
};
INSTANTIATE_TEST_SUITE_P(WorldSizes, StateExchangeTest, testing::Values(1, 2, 3));

TEST_P(StateExchangeTest, Gradients_AreThoseOfOneOperationToTheBit) {
  parallel::RunRanks(GetParam(), kTimeoutMs, [this](parallel::Communicator& communicator) {
    StateExchange exchange(layout_, communicator, kTimeoutMs, [](int64_t) {});
    const parallel::Range own =
        parallel::OwnedRange(layout_.arena_numel(), communicator.rank(), communicator.world_size());
    at::Tensor gradients = at::randn({layout_.arena_numel()}, at::kFloat);
    at::Tensor expected = gradients.clone();
    communicator.ReduceScatterSum(expected);
    Reduce(exchange, gradients, layout_.num_layers());
    EXPECT_TRUE(at::equal(gradients.narrow(0, own.begin, own.numel()),
                          expected.narrow(0, own.begin, own.numel())));
  });
}

TEST_P(StateExchangeTest, Parameters_AreTheOwnersWhenTheirLayerIsReached) {
  parallel::RunRanks(GetParam(), kTimeoutMs, [this](parallel::Communicator& communicator) {
    std::vector<int64_t> changed;
    StateExchange exchange(layout_, communicator, kTimeoutMs,
                           [&](int64_t layer) { changed.push_back(layer); });
    // Each rank has its own number everywhere.
    at::Tensor parameters = at::full({layout_.arena_numel()}, communicator.rank(), at::kFloat);
    at::Tensor expected = parameters.clone();
    communicator.AllGather(expected);
    exchange.SendParameters(parameters, /*step=*/1);
    for (int64_t layer = -1; layer <= layout_.num_layers(); ++layer) {
      exchange.WaitForParameters(layer);
      const auto [begin, end] = layout_.LayerRange(layer);
      EXPECT_TRUE(at::equal(parameters.narrow(0, begin, end - begin),
                            expected.narrow(0, begin, end - begin)))
          << "layer " << layer;
      ASSERT_FALSE(changed.empty());
    }
    EXPECT_EQ(std::ssize(changed), layout_.num_layers() + 2) << "each layer is told of once";
  });
}

TEST_P(StateExchangeTest, BytesSent_AreTheTheoreticalLeast) {
  const int ranks = GetParam();
  std::mutex mutex;
  int64_t sent = 0;
  parallel::RunRanks(ranks, kTimeoutMs, [&](parallel::Communicator& communicator) {
    StateExchange exchange(layout_, communicator, kTimeoutMs, [](int64_t) {});
    at::Tensor arena = at::full({layout_.arena_numel()}, 1.0, at::kFloat);
    for (int step = 0; step < 3; ++step) {
      Reduce(exchange, arena, layout_.num_layers());
      exchange.SendParameters(arena, step);
      exchange.WaitForParameters();
    }
    communicator.Barrier();
    const std::lock_guard lock(mutex);
    sent += exchange.sent_bytes();
  });
  // Each rank 2 (R - 1) / R of the arena a step.
  EXPECT_EQ(sent, 3 * 2 * (ranks - 1) * layout_.arena_numel() * 4);
}

TEST_P(StateExchangeTest, BeforeARangeIsSent_ItIsPrepared) {
  parallel::RunRanks(GetParam(), kTimeoutMs, [this](parallel::Communicator& communicator) {
    StateExchange exchange(layout_, communicator, kTimeoutMs, [](int64_t) {});
    at::Tensor gradients = at::full({layout_.arena_numel()}, 1.0, at::kFloat);
    std::vector<parallel::Range> prepared;
    for (int64_t layer = layout_.num_layers(); layer >= -1; --layer) {
      exchange.GradientsComplete(gradients, layer, 1, [&](parallel::Range range) {
        prepared.push_back(range);
        gradients.narrow(0, range.begin, range.numel()).zero_();
      });
    }
    exchange.WaitForGradients();
    EXPECT_EQ(gradients.abs().sum().item<float>(), 0.0f);
    ASSERT_GT(prepared.size(), 2u) << "one bucket would leave nothing to overlap";
    int64_t end = layout_.arena_numel();
    for (const parallel::Range& range : prepared) {
      EXPECT_EQ(range.end, end);
      end = range.begin;
    }
    EXPECT_EQ(end, 0);
  });
}

// Rank 1 never comes to the exchange; rank 0's wait says who, what and at which step.
TEST(StateExchange, RankThatDoesNotCome_IsNamed) {
  const model::ParameterLayout layout(TinyMoe());
  std::string error;
  parallel::RunRanks(2, kTimeoutMs, [&](parallel::Communicator& communicator) {
    StateExchange exchange(layout, communicator, /*timeout_ms=*/300, [](int64_t) {});
    if (communicator.rank() == 0) {
      at::Tensor gradients = at::full({layout.arena_numel()}, 1.0, at::kFloat);
      for (int64_t layer = layout.num_layers(); layer >= -1; --layer) {
        exchange.GradientsComplete(gradients, layer, /*step=*/7, [](parallel::Range) {});
      }
      try {
        exchange.WaitForGradients();
      } catch (const parallel::CollectiveError& failure) {
        error = failure.what();
      }
    }
    communicator.Barrier();
  });
  EXPECT_THAT(error,
              testing::AllOf(testing::HasSubstr("rank 0 of 2, step 7"),
                             testing::HasSubstr("reduce-scatter"), testing::HasSubstr("rank 1")));
}

}  // namespace
}  // namespace moe::training
