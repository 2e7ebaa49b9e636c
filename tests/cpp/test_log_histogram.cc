// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "lamps/errors.h"
#include "lamps/log_histogram.h"
#include "lamps/types.h"

namespace lamps {
namespace {

constexpr double kLow = 1.0e-3;
constexpr double kHigh = 1.0e4;
const double kLogWidth = std::log(kHigh / kLow) / static_cast<double>(LogHistogram::kBins);

// Edge between bins, as documented: log-spaced from kLow to kHigh.
double edge(std::size_t bin) { return kLow * std::exp(static_cast<double>(bin) * kLogWidth); }
std::size_t bin_of(double value) {
  return static_cast<std::size_t>(std::max(std::log(value / kLow) / kLogWidth, 0.0));
}

// Every observation kept, with its faded weight.
class SampleList {
 public:
  explicit SampleList(double forgetting) : forgetting_(forgetting) {}
  void observe(double value) {
    for (Sample& sample : samples_) sample.weight *= forgetting_;
    samples_.push_back({value, 1.0});
  }
  double weight_beyond(double x) const {
    double sum = 0.0;
    for (const Sample& sample : samples_) sum += sample.value > x ? sample.weight : 0.0;
    return sum;
  }
  double mean_beyond(double x) const {
    double sum = 0.0;
    for (const Sample& sample : samples_) {
      sum += sample.value > x ? sample.weight * sample.value : 0.0;
    }
    return sum / weight_beyond(x);
  }
  double quantile(double p) {
    std::sort(samples_.begin(), samples_.end(),
              [](const Sample& a, const Sample& b) { return a.value < b.value; });
    const double target = p * weight_beyond(-1.0);
    double below = 0.0;
    for (const Sample& sample : samples_) {
      below += sample.weight;
      if (below >= target) return sample.value;
    }
    return samples_.back().value;
  }

 private:
  struct Sample {
    double value;
    double weight;
  };
  double forgetting_;
  std::vector<Sample> samples_;
};

TEST(LogHistogram, RefusesABadShape) {
  EXPECT_THROW(LogHistogram(0.0, 1.0, 0.9), InvalidOption);
  EXPECT_THROW(LogHistogram(-1.0, 1.0, 0.9), InvalidOption);
  EXPECT_THROW(LogHistogram(1.0, 1.0, 0.9), InvalidOption);
  EXPECT_THROW(LogHistogram(2.0, 1.0, 0.9), InvalidOption);
  EXPECT_THROW(LogHistogram(1.0, kForever, 0.9), InvalidOption);
  EXPECT_THROW(LogHistogram(1.0, 2.0, 0.0), InvalidOption);
  EXPECT_THROW(LogHistogram(1.0, 2.0, 1.01), InvalidOption);
  EXPECT_THROW(LogHistogram(1.0, 2.0, std::nan("")), InvalidOption);
  EXPECT_NO_THROW(LogHistogram(1.0, 2.0, 1.0));
}

TEST(LogHistogram, EmptyKnowsNothing) {
  const LogHistogram histogram(kLow, kHigh, 0.99);
  EXPECT_EQ(histogram.weight(), 0.0);
  EXPECT_EQ(histogram.mean(), 0.0);
  EXPECT_EQ(histogram.survival(5.0), 1.0);
  EXPECT_EQ(histogram.quantile(0.5), 0.0);
  EXPECT_EQ(histogram.expected_remaining(5.0), 5.0);
  EXPECT_EQ(histogram.expected_remaining(0.0), kLow);
}

TEST(LogHistogram, OneValueIsItsOwnMean) {
  LogHistogram histogram(kLow, kHigh, 0.99);
  histogram.observe(2.0);
  EXPECT_DOUBLE_EQ(histogram.mean(), 2.0);
  EXPECT_DOUBLE_EQ(histogram.weight(), 1.0);
  EXPECT_DOUBLE_EQ(histogram.expected_remaining(0.0), 2.0);
  EXPECT_DOUBLE_EQ(histogram.expected_remaining(0.5), 1.5);
  EXPECT_DOUBLE_EQ(histogram.survival(1.0), 1.0);
  EXPECT_DOUBLE_EQ(histogram.survival(3.0), 0.0);
}

TEST(LogHistogram, WhatLiesEvenlyInABinIsSplitExactly) {
  LogHistogram histogram(kLow, kHigh, 1.0);
  const double from = edge(40);
  const double to = edge(41);
  for (int i = 0; i < 1000; ++i) histogram.observe(from + (to - from) * (i + 0.5) / 1000.0);
  for (const double passed : {0.1, 0.5, 0.9}) {
    const double x = from + passed * (to - from);
    EXPECT_NEAR(histogram.survival(x), 1.0 - passed, 1e-9);
    EXPECT_NEAR(histogram.expected_remaining(x), 0.5 * (to - x), 1e-6 * to);
    EXPECT_NEAR(histogram.quantile(passed), x, 1e-9 * x);
  }
}

TEST(LogHistogram, BeyondAllThatWasSeenTheTailIsProportional) {
  LogHistogram histogram(kLow, kHigh, 0.99);
  for (int i = 0; i < 100; ++i) histogram.observe(1.0);
  EXPECT_EQ(histogram.expected_remaining(50.0), 50.0);
  EXPECT_EQ(histogram.expected_remaining(5000.0), 5000.0);
}

TEST(LogHistogram, OldMassFadesOutOfTheTail) {
  LogHistogram histogram(kLow, kHigh, 0.5);
  histogram.observe(100.0);
  for (int i = 0; i < 60; ++i) histogram.observe(1.0);
  EXPECT_EQ(histogram.expected_remaining(20.0), 20.0);  // 2^-60 of an observation is none
  EXPECT_NEAR(histogram.mean(), 1.0, 1e-9);
}

TEST(LogHistogram, ValuesOutsideTheRangeGoToTheEnds) {
  LogHistogram histogram(1.0, 100.0, 1.0);
  histogram.observe(-5.0);  // counts as 0
  histogram.observe(0.01);
  histogram.observe(1.0e6);
  EXPECT_DOUBLE_EQ(histogram.weight(), 3.0);
  EXPECT_DOUBLE_EQ(histogram.mean(), (0.01 + 1.0e6) / 3.0);
  EXPECT_NEAR(histogram.survival(50.0), 1.0 / 3.0, 1e-12);
  EXPECT_NEAR(histogram.expected_remaining(50.0), 1.0e6 - 50.0, 1e-6);
  EXPECT_GT(histogram.quantile(1.0), 1.0e6);  // the open bin is taken to reach as far as needed
}

TEST(LogHistogram, IgnoresWhatIsNotFinite) {
  LogHistogram histogram(kLow, kHigh, 0.99);
  histogram.observe(std::nan(""));
  histogram.observe(kForever);
  histogram.observe(-kForever);
  EXPECT_EQ(histogram.weight(), 0.0);
}

TEST(LogHistogram, WeightTendsToTheMemoryOfTheForgetting) {
  LogHistogram histogram(kLow, kHigh, 0.98);
  for (int i = 0; i < 2000; ++i) histogram.observe(1.0);
  EXPECT_NEAR(histogram.weight(), 50.0, 1e-9);
}

TEST(LogHistogram, LongUseDoesNotOverflow) {
  LogHistogram histogram(kLow, kHigh, 0.5);
  for (int i = 0; i < 10'000; ++i) histogram.observe(i % 2 == 0 ? 1.0 : 3.0);
  EXPECT_NEAR(histogram.weight(), 2.0, 1e-9);
  EXPECT_NEAR(histogram.mean(), (3.0 + 0.5 * 1.0) / 1.5, 1e-9);
  LogHistogram fast(kLow, kHigh, 1.0e-3);
  for (int i = 0; i < 1000; ++i) fast.observe(2.0);
  EXPECT_NEAR(fast.mean(), 2.0, 1e-9);
}

TEST(LogHistogram, SurvivalAndQuantileAreInverse) {
  LogHistogram histogram(kLow, kHigh, 1.0);
  std::mt19937 random(5);
  std::lognormal_distribution<double> draw(0.0, 2.0);
  for (int i = 0; i < 2000; ++i) histogram.observe(draw(random));
  for (double p = 0.01; p < 1.0; p += 0.01) {
    EXPECT_NEAR(1.0 - histogram.survival(histogram.quantile(p)), p, 1e-9);
  }
  EXPECT_EQ(histogram.quantile(0.0), 0.0);
  EXPECT_EQ(histogram.survival(histogram.quantile(1.0)), 0.0);
}

class LogHistogramAgainstSamples : public ::testing::TestWithParam<double> {};

// At bin edges the answers are exact; inside a bin they lie between those at its two edges.
TEST_P(LogHistogramAgainstSamples, Agrees) {
  LogHistogram histogram(kLow, kHigh, GetParam());
  SampleList samples(GetParam());
  std::mt19937 random(11);
  std::lognormal_distribution<double> draw(0.5, 1.7);
  for (int i = 0; i < 3000; ++i) {
    const double value = std::clamp(draw(random), 2.0 * kLow, 0.5 * kHigh);
    histogram.observe(value);
    samples.observe(value);
  }
  const double all = samples.weight_beyond(0.0);
  EXPECT_NEAR(histogram.weight(), all, 1e-9 * all);
  EXPECT_NEAR(histogram.mean(), samples.mean_beyond(0.0), 1e-9 * histogram.mean());

  // Up to where a millionth of the weight is left: less than that may count as no mass.
  for (std::size_t bin = 1; samples.weight_beyond(edge(bin + 1)) > 1e-6 * all; ++bin) {
    const double low_edge = edge(bin);
    const double high_edge = edge(bin + 1);
    EXPECT_NEAR(histogram.survival(low_edge), samples.weight_beyond(low_edge) / all, 1e-9);
    EXPECT_NEAR(histogram.expected_remaining(low_edge) + low_edge, samples.mean_beyond(low_edge),
                1e-9 * samples.mean_beyond(low_edge));
    for (const double x : {0.75 * low_edge + 0.25 * high_edge, 0.1 * low_edge + 0.9 * high_edge}) {
      EXPECT_LE(histogram.survival(x), samples.weight_beyond(low_edge) / all + 1e-9);
      EXPECT_GE(histogram.survival(x), samples.weight_beyond(high_edge) / all - 1e-9);
      const double expected_total = histogram.expected_remaining(x) + x;
      EXPECT_GE(expected_total, samples.mean_beyond(low_edge) * (1.0 - 1e-9));
      EXPECT_LE(expected_total, samples.mean_beyond(high_edge) * (1.0 + 1e-9));
    }
  }
  // No p below is a multiple of one sample's weight, where the quantile is a whole gap wide.
  for (double p = 0.00517; p < 1.0; p += 0.01) {
    EXPECT_EQ(bin_of(histogram.quantile(p)), bin_of(samples.quantile(p))) << p;
  }
}

INSTANTIATE_TEST_SUITE_P(Forgetting, LogHistogramAgainstSamples,
                         ::testing::Values(1.0, 0.998, 0.9));

}  // namespace
}  // namespace lamps
