// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "lamps/hold.h"

namespace lamps {
namespace {

constexpr Seconds kShortest = 1e-3;
constexpr Seconds kLongest = 1e3;

// No host tier: what is let go is lost.
constexpr Loss drop_only(TokenSeconds lost) {
  return {.drop = lost, .swap_out = kForever, .swap_in = 0.0};
}

double exponential(Seconds t, Seconds mean) { return std::exp(-t / mean); }
// Nine calls in ten take 0.1 s on average, one takes 100 s.
constexpr auto mixed = [](Seconds t) {
  return 0.9 * exponential(t, 0.1) + 0.1 * exponential(t, 100.0);
};

// The same waste, integrated finely.
double waste_until(Seconds tau, double holding, double lost, double p_return) {
  constexpr int kSlices = 20'000;
  double held = 0.0;
  for (int i = 0; i < kSlices; ++i) {
    const Seconds t = tau * (i + 0.5) / kSlices;
    held += (p_return * mixed(t) + 1.0 - p_return) * tau / kSlices;
  }
  return holding * held + lost * p_return * mixed(tau);
}

TEST(BestHold, KeepingWhatCostsNothingIsForTheLongest) {
  const auto out = [](Seconds t) { return exponential(t, 1.0); };
  EXPECT_NEAR(best_hold(0.0, drop_only(100.0), 0.5, out, kShortest, kLongest).until, kLongest,
              1e-6);
}

TEST(BestHold, WhatIsLostForNothingIsLetGo) {
  const auto out = [](Seconds t) { return exponential(t, 1.0); };
  EXPECT_EQ(best_hold(10.0, drop_only(0.0), 0.5, out, kShortest, kLongest).until, 0.0);
  EXPECT_EQ(best_hold(10.0, drop_only(100.0), 0.0, out, kShortest, kLongest).until, 0.0);
}

// 1000 tokens held, 500 token-seconds to compute them again.
TEST(BestHold, AMemorylessCallIsKeptToTheEndOrNotAtAll) {
  const auto quick = [](Seconds t) { return exponential(t, 0.1); };  // 100 token-seconds to hold
  EXPECT_GT(best_hold(1000.0, drop_only(500.0), 1.0, quick, kShortest, kLongest).until, 1.0);
  const auto slow = [](Seconds t) { return exponential(t, 1.0); };  // 1000 token-seconds to hold
  EXPECT_EQ(best_hold(1000.0, drop_only(500.0), 1.0, slow, kShortest, kLongest).until, 0.0);
}

TEST(BestHold, WaitsForTheManyQuickReturnsAndNotForTheFewSlowOnes) {
  const Hold hold = best_hold(1000.0, drop_only(2000.0), 0.95, mixed, kShortest, kLongest);
  EXPECT_GT(hold.until, 0.1);
  EXPECT_LT(hold.until, 5.0);
  // The mean, 10 s, would let go at once: 10,000 token-seconds against 2,000.
  EXPECT_LT(hold.waste, 2000.0 * 0.95);
}

TEST(BestHold, IsCloseToTheBestOfAFineSearch) {
  for (const double lost : {10.0, 100.0, 1000.0, 10'000.0}) {
    const Hold hold = best_hold(1000.0, drop_only(lost), 0.9, mixed, kShortest, kLongest);
    double best = lost * 0.9;  // let go now
    for (Seconds tau = kShortest; tau < kLongest; tau *= 1.2) {
      best = std::min(best, waste_until(tau, 1000.0, lost, 0.9));
    }
    EXPECT_LT(waste_until(hold.until, 1000.0, lost, 0.9), 1.1 * best) << lost;
  }
}

// Dropping loses 1000 token-seconds if the session returns; copying costs 100 out and 100 in.
constexpr Loss kEither = {.drop = 1000.0, .swap_out = 100.0, .swap_in = 100.0};

TEST(BestHold, LetsGoInTheCheaperWay) {
  const auto slow = [](Seconds t) { return exponential(t, 100.0); };
  const Hold swapped = best_hold(1000.0, kEither, 0.9, slow, kShortest, kLongest);
  EXPECT_EQ(swapped.until, 0.0);
  EXPECT_EQ(swapped.then, Handling::kSwap);
  EXPECT_DOUBLE_EQ(swapped.waste, 100.0 + 0.9 * 100.0);
  // Seldom back: 0.1 * 1000 < 100 + 0.1 * 100.
  const Hold dropped = best_hold(1000.0, kEither, 0.1, slow, kShortest, kLongest);
  EXPECT_EQ(dropped.until, 0.0);
  EXPECT_EQ(dropped.then, Handling::kDiscard);
  EXPECT_DOUBLE_EQ(dropped.waste, 0.1 * 1000.0);
}

TEST(BestHold, WhatCanBeSwappedIsKeptForLess) {
  const Hold lost = best_hold(1000.0, drop_only(2000.0), 0.95, mixed, kShortest, kLongest);
  const Loss either = {.drop = 2000.0, .swap_out = 20.0, .swap_in = 20.0};
  const Hold swapped = best_hold(1000.0, either, 0.95, mixed, kShortest, kLongest);
  EXPECT_LT(swapped.until, lost.until);
  EXPECT_LT(swapped.waste, lost.waste);
  EXPECT_EQ(lost.then, Handling::kDiscard);
}

// Back at once in nine cases of ten, else never: kept for a moment, and then not worth a copy.
TEST(BestHold, TheWayIsChosenForTheEndOfTheHold) {
  const auto at_once = [](Seconds t) { return exponential(t, 0.01); };
  const Hold hold = best_hold(100.0, kEither, 0.9, at_once, kShortest, 1.0);
  EXPECT_GT(hold.until, 0.02);
  EXPECT_LT(hold.until, 0.5);
  EXPECT_EQ(hold.then, Handling::kDiscard);
}

TEST(BestHold, TiesGoToTheWayThatCanBeUndone) {
  const auto slow = [](Seconds t) { return exponential(t, 100.0); };
  const Loss equal = {.drop = 200.0, .swap_out = 100.0, .swap_in = 100.0};
  EXPECT_EQ(best_hold(1000.0, equal, 1.0, slow, kShortest, kLongest).then, Handling::kSwap);
}

}  // namespace
}  // namespace lamps
