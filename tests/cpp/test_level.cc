// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "lamps/level.h"

namespace lamps {
namespace {

class LevelTest : public ::testing::Test {
 protected:
  LevelTest() {
    constexpr LogNormal kPrior[] = {{1.0, 0.0, 1.5}};
    fill(prior_, kPrior);
  }
  // The level's own prediction; its fallback is the prior.
  [[nodiscard]] Mixture own() const {
    Mixture mixture;
    mixture.add(level_.seen(), level_.share(Level::kShrinkage));
    mixture.close(prior_);
    return mixture;
  }
  void observe(double value) {
    Mixture fallback;
    fallback.close(prior_);
    level_.observe(value, own(), fallback);
  }

  LogHistogram prior_{1e-4, 1e5, 1.0};
  Level level_{LogHistogram(1e-4, 1e5, 0.998)};
  std::mt19937 random_{7};
};

TEST_F(LevelTest, FollowsAShiftAtOnceInsteadOfAveragingItIn) {
  std::lognormal_distribution<double> before(0.0, 1.5), after(2.3, 1.5);
  for (int i = 0; i < 1000; ++i) observe(before(random_));
  EXPECT_EQ(level_.drifts(), 0);
  for (int i = 0; i < 80; ++i) observe(after(random_));
  EXPECT_GE(level_.drifts(), 1) << "ten times as long for 80 calls";
  for (int i = 0; i < 220; ++i) observe(after(random_));
  EXPECT_NEAR(std::log(level_.seen().quantile(0.5)), 2.3, 0.35);
}

TEST_F(LevelTest, SeesShiftsDownwardsToo) {
  std::lognormal_distribution<double> before(2.3, 1.5), after(0.0, 1.5);
  for (int i = 0; i < 1000; ++i) observe(before(random_));
  const std::int64_t drifts = level_.drifts();
  for (int i = 0; i < 80; ++i) observe(after(random_));
  EXPECT_GT(level_.drifts(), drifts);
}

TEST_F(LevelTest, RarelySeesADriftThatIsNotThere) {
  std::lognormal_distribution<double> draw(0.5, 2.0);
  for (int i = 0; i < 50'000; ++i) observe(draw(random_));
  EXPECT_LE(level_.drifts(), 4);
}

TEST_F(LevelTest, AConstantIsNoDrift) {
  for (int i = 0; i < 5000; ++i) observe(600.0);
  EXPECT_LE(level_.drifts(), 1) << "the first may be seen against the prior";
  EXPECT_GT(level_.seen().weight(), 400.0);
}

TEST_F(LevelTest, IsSwitchedOffWhileItIsWorseThanItsFallback) {
  std::lognormal_distribution<double> draw(0.0, 1.5);
  for (int i = 0; i < 100; ++i) observe(3.0 + 0.01 * (i % 10));
  EXPECT_FALSE(level_.off());
  for (int i = 0; i < 300; ++i) {  // a fallback that knows better every time
    const double value = draw(random_);
    LogHistogram knowing(1e-4, 1e5, 1.0);
    knowing.observe(value);
    Mixture fallback;
    fallback.close(knowing);
    level_.observe(value, own(), fallback);
  }
  EXPECT_TRUE(level_.off());
  EXPECT_LT(level_.gain(), 0.0);
  EXPECT_EQ(level_.share(5.0), 0.0);
  for (int i = 0; i < 1000; ++i) observe(2.0 + 0.001 * (i % 10));  // then it is the better one
  EXPECT_FALSE(level_.off());
  EXPECT_GT(level_.share(5.0), 0.9);
}

TEST_F(LevelTest, SharesTheBeliefByWhatItHasSeen) {
  EXPECT_EQ(level_.share(5.0), 0.0);
  for (int i = 0; i < 5; ++i) observe(1.0);
  EXPECT_NEAR(level_.share(5.0), 0.5, 0.01);
  EXPECT_NEAR(level_.share(20.0), 0.2, 0.01);
}

TEST(ReturnCount, ShrinksTowardsItsFallback) {
  ReturnCount count;
  EXPECT_DOUBLE_EQ(count.rate(0.7, 10.0), 0.7);
  for (int i = 0; i < 10; ++i) count.observe(true, 1.0);
  EXPECT_DOUBLE_EQ(count.rate(0.5, 10.0), 0.75);
  for (int i = 0; i < 10; ++i) count.observe(false, 0.5);
  EXPECT_LT(count.returned, 0.01);
  EXPECT_NEAR(count.ended, 2.0, 0.01);
}

TEST(Calibration, CountsWhereActualValuesLay) {
  LogHistogram seen(1e-4, 1e5, 1.0);
  for (int i = 1; i <= 1000; ++i) seen.observe(0.1 * i);
  Mixture mixture;
  mixture.close(seen);
  Calibration calibration;
  for (const double value : {10.0, 70.0, 95.0, 99.9}) calibration.score(mixture, value);
  EXPECT_EQ(calibration.scored, 4);
  EXPECT_EQ(calibration.below_50, 1);
  EXPECT_EQ(calibration.below_90, 2);
  EXPECT_EQ(calibration.below_99, 3);
  const double expected =
      std::log(5.0) + std::log(70.0 / 50) + std::log(95.0 / 50) + std::log(99.9 / 50);
  EXPECT_NEAR(calibration.log_error, expected, 0.05);
}

}  // namespace
}  // namespace lamps
