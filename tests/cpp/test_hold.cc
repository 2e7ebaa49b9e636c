// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

#include "lamps/hold.h"

namespace lamps {
namespace {

constexpr Seconds kShortest = 1e-3;
constexpr Seconds kLongest = 1e3;

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
  EXPECT_NEAR(best_hold(0.0, 100.0, 0.5, out, kShortest, kLongest).until, kLongest, 1e-6);
}

TEST(BestHold, WhatIsLostForNothingIsLetGo) {
  const auto out = [](Seconds t) { return exponential(t, 1.0); };
  EXPECT_EQ(best_hold(10.0, 0.0, 0.5, out, kShortest, kLongest).until, 0.0);
  EXPECT_EQ(best_hold(10.0, 100.0, 0.0, out, kShortest, kLongest).until, 0.0);
}

// 1000 tokens held, 500 token-seconds to compute them again.
TEST(BestHold, AMemorylessCallIsKeptToTheEndOrNotAtAll) {
  const auto quick = [](Seconds t) { return exponential(t, 0.1); };  // 100 token-seconds to hold
  EXPECT_GT(best_hold(1000.0, 500.0, 1.0, quick, kShortest, kLongest).until, 1.0);
  const auto slow = [](Seconds t) { return exponential(t, 1.0); };  // 1000 token-seconds to hold
  EXPECT_EQ(best_hold(1000.0, 500.0, 1.0, slow, kShortest, kLongest).until, 0.0);
}

TEST(BestHold, WaitsForTheManyQuickReturnsAndNotForTheFewSlowOnes) {
  const Hold hold = best_hold(1000.0, 2000.0, 0.95, mixed, kShortest, kLongest);
  EXPECT_GT(hold.until, 0.1);
  EXPECT_LT(hold.until, 5.0);
  // The mean, 10 s, would let go at once: 10,000 token-seconds against 2,000.
  EXPECT_LT(hold.waste, 2000.0 * 0.95);
}

TEST(BestHold, IsCloseToTheBestOfAFineSearch) {
  for (const double lost : {10.0, 100.0, 1000.0, 10'000.0}) {
    const Hold hold = best_hold(1000.0, lost, 0.9, mixed, kShortest, kLongest);
    double best = lost * 0.9;  // let go now
    for (Seconds tau = kShortest; tau < kLongest; tau *= 1.2) {
      best = std::min(best, waste_until(tau, 1000.0, lost, 0.9));
    }
    EXPECT_LT(waste_until(hold.until, 1000.0, lost, 0.9), 1.1 * best) << lost;
  }
}

}  // namespace
}  // namespace lamps
