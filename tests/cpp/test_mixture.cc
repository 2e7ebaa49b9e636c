// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "lamps/mixture.h"

namespace lamps {
namespace {

LogHistogram empty() { return {1e-4, 1e5, 1.0}; }

LogHistogram of(double value, int times) {
  LogHistogram histogram = empty();
  for (int i = 0; i < times; ++i) histogram.observe(value);
  return histogram;
}

TEST(Mixture, BelievesAPartByItsShareWhateverItHasSeen) {
  const LogHistogram prior = of(100.0, 7);
  for (const int seen : {1, 3000}) {
    const LogHistogram part = of(1.0, seen);
    for (const double share : {0.0, 0.3, 1.0}) {
      Mixture mixture;
      mixture.add(part, share);
      mixture.close(prior);
      EXPECT_NEAR(mixture.survival(10.0), 1.0 - share, 1e-12) << seen;
      EXPECT_NEAR(mixture.expected_remaining(0.0), share * 1.0 + (1.0 - share) * 100.0, 1e-9);
    }
  }
}

TEST(Mixture, PassesOverWhatIsEmpty) {
  const LogHistogram prior = of(100.0, 7), nothing = empty();
  Mixture mixture;
  mixture.add(nothing, 0.9);
  mixture.close(prior);
  EXPECT_NEAR(mixture.expected_remaining(0.0), 100.0, 1e-9);
}

TEST(Mixture, PartsShareWhatMoreSpecialOnesLeave) {
  const LogHistogram tool = of(1.0, 3), kind = of(10.0, 9), prior = of(100.0, 1);
  Mixture mixture;
  mixture.add(tool, 0.5);
  mixture.add(kind, 0.75);
  mixture.close(prior);
  EXPECT_NEAR(1.0 - mixture.survival(3.0), 0.5, 1e-12);
  EXPECT_NEAR(1.0 - mixture.survival(30.0), 0.5 + 0.5 * 0.75, 1e-12);
}

TEST(Mixture, AnswersAgreeWithEachOther) {
  LogHistogram tool = empty(), kind = empty(), prior = empty();
  std::mt19937 random(3);
  std::lognormal_distribution<double> quick(-1.0, 1.0), slow(4.0, 1.0);
  for (int i = 0; i < 40; ++i) tool.observe(quick(random));
  for (int i = 0; i < 300; ++i) kind.observe(i % 4 == 0 ? slow(random) : quick(random));
  constexpr LogNormal kPrior[] = {{1.0, 2.0, 2.0}};
  fill(prior, kPrior);
  Mixture mixture;
  mixture.add(tool, 0.9);
  mixture.add(kind, 0.95);
  mixture.close(prior);
  for (const double x : {0.0, 0.3, 5.0, 80.0}) {
    double integral = 0.0;  // E[X - x | X > x] is the integral of P(X > x + t | X > x)
    double last = 0.0;
    for (double t = 1e-4; t < 1e7; t *= 1.01) {
      integral += (t - last) * 0.5 * (mixture.still_out(x, t) + mixture.still_out(x, last));
      last = t;
    }
    EXPECT_NEAR(mixture.expected_remaining(x) / integral, 1.0, 0.05) << x;
    for (const double p : {0.1, 0.5, 0.9, 0.99}) {
      EXPECT_NEAR(mixture.still_out(x, mixture.remaining_quantile(x, p)), 1.0 - p, 5e-3);
    }
    EXPECT_DOUBLE_EQ(mixture.still_out(x, 0.0), 1.0);
  }
}

TEST(Mixture, RanksAreEvenWhereItIsRight) {
  LogHistogram prior = empty();
  constexpr LogNormal kPrior[] = {{1.0, 0.0, 1.5}};
  fill(prior, kPrior);
  Mixture mixture;
  mixture.close(prior);
  std::mt19937 random(5);
  std::lognormal_distribution<double> draw(0.0, 1.5);
  double sum = 0.0, squares = 0.0;
  constexpr int kDraws = 20'000;
  for (int i = 0; i < kDraws; ++i) {
    const double rank = mixture.rank_of(draw(random));
    sum += rank;
    squares += rank * rank;
  }
  EXPECT_NEAR(sum / kDraws, 0.5, 0.01);
  EXPECT_NEAR(squares / kDraws, 1.0 / 3.0, 0.01);
}

TEST(Mixture, TheSameValueEveryTimeRanksInTheMiddle) {
  const LogHistogram same = of(2.0, 10'000);
  Mixture mixture;
  mixture.close(same);
  EXPECT_NEAR(mixture.rank_of(2.0), 0.5, 1e-12);
  EXPECT_NEAR(mixture.share_of_bin(2.0), 1.0, 1e-12);
  EXPECT_NEAR(mixture.share_of_bin(20.0), 0.0, 1e-12);
}

TEST(Mixture, BeyondEverythingTheTailIsProportional) {
  const LogHistogram same = of(2.0, 10);
  Mixture mixture;
  mixture.close(same);
  EXPECT_DOUBLE_EQ(mixture.expected_remaining(50.0), 50.0);
  EXPECT_DOUBLE_EQ(mixture.still_out(50.0, 50.0), 0.25);
  EXPECT_NEAR(mixture.remaining_quantile(50.0, 0.75), 50.0, 1e-9);
}

TEST(Fill, MatchesTheClosedForms) {
  LogHistogram prior = empty();
  constexpr LogNormal kPrior[] = {{0.7, -1.0, 1.0}, {0.3, 4.0, 0.5}};
  fill(prior, kPrior);
  EXPECT_NEAR(prior.weight(), 1.0, 1e-9);
  EXPECT_NEAR(prior.mean(), 0.7 * std::exp(-0.5) + 0.3 * std::exp(4.125), 1e-6);
  const auto upper = [](double z) { return 0.5 * std::erfc(z / std::sqrt(2.0)); };
  for (const double x : {0.01, 0.5, 3.0, 60.0}) {
    const double exact = 0.7 * upper(std::log(x) + 1.0) + 0.3 * upper((std::log(x) - 4.0) / 0.5);
    EXPECT_NEAR(prior.survival(x), exact, 0.01) << x;
  }
}

}  // namespace
}  // namespace lamps
