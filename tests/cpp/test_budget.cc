// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "lamps/budget.h"

namespace lamps {
namespace {

constexpr Tokens kCapacity = 10'000;

TEST(AdmissionBudget, StartsAtTheLargestShare) {
  const AdmissionBudget budget(kCapacity, 0.5, 0.9);
  EXPECT_EQ(budget.share(), 0.9);
  EXPECT_EQ(budget.tokens(), 9'000);
  EXPECT_EQ(budget.capacity(), kCapacity);
  EXPECT_EQ(budget.thrashed_tokens(), 0);
}

TEST(AdmissionBudget, LosingAWholePoolHalvesTheDistanceToTheFloor) {
  AdmissionBudget budget(kCapacity, 0.5, 0.9);
  budget.on_thrash(kCapacity);
  EXPECT_DOUBLE_EQ(budget.share(), 0.7);
  EXPECT_EQ(budget.thrashed_tokens(), kCapacity);
}

TEST(AdmissionBudget, NeverLeavesItsRange) {
  AdmissionBudget budget(kCapacity, 0.5, 0.9);
  for (int i = 0; i < 100; ++i) budget.on_thrash(5 * kCapacity);
  EXPECT_GE(budget.share(), 0.5);
  EXPECT_LT(budget.share(), 0.51);
  EXPECT_EQ(budget.thrashed_tokens(), 500 * kCapacity);
  double last = budget.share();
  for (int i = 0; i < 1000; ++i) {
    budget.on_served(kCapacity / 10);
    EXPECT_GE(budget.share(), last);
    last = budget.share();
  }
  EXPECT_EQ(last, 0.9);
}

TEST(AdmissionBudget, NothingLostOrServedChangesNothing) {
  AdmissionBudget budget(kCapacity, 0.5, 0.9);
  budget.on_thrash(kCapacity / 2);
  const double share = budget.share();
  budget.on_thrash(0);
  budget.on_served(0);
  EXPECT_EQ(budget.share(), share);
}

TEST(AdmissionBudget, PoolSizeCancelsOut) {
  AdmissionBudget small(kCapacity, 0.5, 0.9);
  AdmissionBudget large(1000 * kCapacity, 0.5, 0.9);
  small.on_thrash(3'000);
  large.on_thrash(3'000'000);
  small.on_served(1'000);
  large.on_served(1'000'000);
  EXPECT_DOUBLE_EQ(small.share(), large.share());
}

}  // namespace
}  // namespace lamps
