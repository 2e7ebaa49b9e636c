// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "sim/host_tier.h"
#include "sim_scene.h"

namespace lamps::sim {
namespace {

EngineModel with_host(Tokens host_blocks) {
  EngineModel engine = testing::small_engine(16);
  engine.host_tokens = host_blocks * engine.block_tokens;
  engine.cost.kv_bytes_per_token = 100;
  engine.cost.swap_bytes_per_s = 400.0;  // a block of 4 tokens per second
  engine.validate();
  return engine;
}

TEST(HostTier, ACopyCanBeHitWhenItIsComplete) {
  HostTier tier(with_host(8));
  const auto entry = tier.open(2);
  EXPECT_EQ(tier.available(entry, 0.0), 2);
  EXPECT_EQ(tier.store(entry, 5, 10.0), 3);
  EXPECT_EQ(tier.available(entry, 12.9), 2);
  EXPECT_EQ(tier.available(entry, 13.0), 5);
  EXPECT_EQ(tier.store(entry, 6, 20.0), 1);
  EXPECT_EQ(tier.available(entry, 20.5), 5);  // what was there before stays usable
  EXPECT_EQ(tier.store(entry, 6, 30.0), 0);
  EXPECT_EQ(tier.used(), 4);
}

TEST(HostTier, OneCopyAtATimeInEachDirection) {
  HostTier tier(with_host(16));
  EXPECT_DOUBLE_EQ(tier.load(3, 5.0), 8.0);
  EXPECT_DOUBLE_EQ(tier.load(2, 6.0), 10.0);
  EXPECT_DOUBLE_EQ(tier.load(1, 20.0), 21.0);
  const auto entry = tier.open(0);
  EXPECT_EQ(tier.store(entry, 4, 6.0), 4);
  EXPECT_EQ(tier.available(entry, 10.0), 4);  // loads do not delay stores
}

TEST(HostTier, DropsTheLeastRecentlyUsedFromItsEnd) {
  HostTier tier(with_host(6));
  const auto a = tier.open(0), b = tier.open(0), c = tier.open(0);
  EXPECT_EQ(tier.store(a, 3, 0.0), 3);
  EXPECT_EQ(tier.store(b, 3, 0.0), 3);
  tier.touch(a);
  EXPECT_EQ(tier.store(c, 2, 0.0), 2);
  EXPECT_EQ(tier.available(a, 100.0), 3);
  EXPECT_EQ(tier.available(b, 100.0), 1);
  EXPECT_EQ(tier.available(c, 100.0), 2);
  tier.close(b);
  EXPECT_EQ(tier.used(), 6);  // nobody asks for it, but it keeps its room
  EXPECT_EQ(tier.store(c, 3, 0.0), 1);
  EXPECT_EQ(tier.open(0), b);
  tier.check_invariants();
}

TEST(HostTier, NeverTakesMoreThanItHas) {
  HostTier tier(with_host(4));
  const auto a = tier.open(0);
  EXPECT_EQ(tier.store(a, 7, 0.0), 4);
  EXPECT_EQ(tier.available(a, 100.0), 4);
  tier.cut(a, 1);
  EXPECT_EQ(tier.used(), 1);
  EXPECT_EQ(tier.available(a, 100.0), 1);
  tier.check_invariants();
}

}  // namespace
}  // namespace lamps::sim
