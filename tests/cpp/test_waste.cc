// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "lamps/waste.h"

namespace lamps {
namespace {

// 10 ms per step, 0.1 ms per prompt token; 1000 B/token at 1e6 B/s: 1 ms per token copied.
CostModel simple_cost(double bandwidth = 1.0e6) {
  return CostModel({.base = 0.010,
                    .per_prefill = 1.0e-4,
                    .per_decode = 0.0,
                    .per_context = 0.0,
                    .swap_bytes_per_s = bandwidth,
                    .kv_bytes_per_token = 1000});
}

PauseContext simple_pause() {
  return {.context_tokens = 1000,
          .other_tokens = 4000,
          .expected_remaining = 2.0,
          .p_return = 0.5,
          .pressure = 0.25,
          .loss_share = 0.8,
          .chunk = 500,
          .host_memory_free = true};
}

TEST(Waste, MatchesTheHandComputedNumbers) {
  const Waste waste = waste_of(simple_pause(), simple_cost());
  // 1000 tokens * 2 s * 0.25
  EXPECT_DOUBLE_EQ(waste.preserve, 500.0);
  // t_rc = 1000 * 0.1 ms + 2 steps * 10 ms = 0.12 s; * (500 + 4000) tokens * 0.5 * 0.8
  EXPECT_DOUBLE_EQ(waste.discard, 216.0);
  // out: 1 s * 1000 tokens; in: the same, in half of the cases
  EXPECT_DOUBLE_EQ(waste.swap, 1500.0);
}

TEST(Waste, MemoryNobodyWantsIsFreeToKeep) {
  PauseContext pause = simple_pause();
  pause.pressure = 0.0;
  pause.expected_remaining = kForever;
  EXPECT_EQ(waste_of(pause, simple_cost()).preserve, 0.0);
  EXPECT_EQ(least_waste(waste_of(pause, simple_cost())), Handling::kPreserve);
}

TEST(Waste, AnEmptySessionWastesNothingButIsNotSwappedWithoutBandwidth) {
  PauseContext pause = simple_pause();
  pause.context_tokens = 0;
  pause.expected_remaining = kForever;
  const Waste waste = waste_of(pause, simple_cost(0.0));
  EXPECT_EQ(waste.preserve, 0.0);
  EXPECT_EQ(waste.discard, 0.0);
  EXPECT_EQ(waste.swap, kForever);
}

TEST(Waste, SwapNeedsBandwidthSizeAndHostRoom) {
  PauseContext pause = simple_pause();
  EXPECT_EQ(waste_of(pause, simple_cost(0.0)).swap, kForever);
  CostParameters sizeless = simple_cost().parameters();
  sizeless.kv_bytes_per_token = 0;
  EXPECT_EQ(waste_of(pause, CostModel(sizeless)).swap, kForever);
  pause.host_memory_free = false;
  EXPECT_EQ(waste_of(pause, simple_cost()).swap, kForever);
}

TEST(Waste, ASessionThatNeverReturnsNeedsNoRecomputation) {
  PauseContext pause = simple_pause();
  pause.p_return = 0.0;
  const Waste waste = waste_of(pause, simple_cost());
  EXPECT_EQ(waste.discard, 0.0);
  EXPECT_DOUBLE_EQ(waste.swap, 1000.0);  // the copy out only
  EXPECT_EQ(least_waste(waste), Handling::kDiscard);
}

TEST(Waste, BlocksThatSurviveInTheCacheCostNothingToFree) {
  PauseContext pause = simple_pause();
  pause.loss_share = 0.0;
  EXPECT_EQ(waste_of(pause, simple_cost()).discard, 0.0);
}

TEST(Loss, IsInPartsWhatTheWastesAddUp) {
  const Loss loss = loss_of(simple_pause(), simple_cost());
  // t_rc = 0.12 s; * (500 + 4000) tokens * 0.8, whether or not the session returns
  EXPECT_DOUBLE_EQ(loss.drop, 432.0);
  EXPECT_DOUBLE_EQ(loss.swap_out, 1000.0);
  EXPECT_DOUBLE_EQ(loss.swap_in, 1000.0);
  PauseContext full = simple_pause();
  full.host_memory_free = false;
  EXPECT_EQ(loss_of(full, simple_cost()).swap_out, kForever);
}

TEST(Loss, WithACopyOnTheHostLettingGoCostsALoadAtMost) {
  PauseContext pause = simple_pause();
  pause.other_tokens = 40'000;
  EXPECT_DOUBLE_EQ(loss_of(pause, simple_cost()).drop, 3888.0);
  pause.on_host = true;
  EXPECT_DOUBLE_EQ(loss_of(pause, simple_cost()).drop, 1000.0);
  pause.host_memory_free = false;  // it is there all the same
  EXPECT_DOUBLE_EQ(loss_of(pause, simple_cost()).drop, 1000.0);
  pause.loss_share = 0.0;  // blocks that survive in the cache need no load
  EXPECT_DOUBLE_EQ(loss_of(pause, simple_cost()).drop, 0.0);
}

TEST(LeastWaste, TiesGoToTheReversibleHandling) {
  EXPECT_EQ(least_waste({1.0, 1.0, 1.0}), Handling::kPreserve);
  EXPECT_EQ(least_waste({2.0, 1.0, 1.0}), Handling::kSwap);
  EXPECT_EQ(least_waste({1.0, 1.0, 0.5}), Handling::kSwap);
  EXPECT_EQ(least_waste({2.0, 1.0, 1.5}), Handling::kDiscard);
  EXPECT_EQ(least_waste({kForever, kForever, kForever}), Handling::kPreserve);
}

}  // namespace
}  // namespace lamps
