// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>
#include <random>
#include <string>

#include "expect_error.h"
#include "lamps/cost_model.h"
#include "lamps/errors.h"

namespace lamps {
namespace {

using testing::error_of;

// A deployment whose steps follow the model exactly, with chosen noise and stalls.
class Deployment {
 public:
  Deployment(const CostParameters& truth, unsigned seed) : truth_(truth), random_(seed) {}

  double uniform() { return std::uniform_real_distribution<double>(0.0, 1.0)(random_); }

  // Decode and prefill mixed as in a busy engine.
  StepLoad busy_step() {
    const Tokens sequences = 1 + static_cast<Tokens>(63.0 * uniform());
    const bool prefill = uniform() < 0.4;
    return {.prefill_tokens = prefill ? 1 + static_cast<Tokens>(2000.0 * uniform()) : 0,
            .decode_seqs = sequences,
            .context_tokens = static_cast<Tokens>(60'000.0 * uniform())};
  }
  // Every sequence has 1000 tokens of context: two features that cannot be told apart.
  StepLoad collinear_step() {
    const Tokens sequences = 1 + static_cast<Tokens>(63.0 * uniform());
    return {.prefill_tokens = uniform() < 0.1 ? 512 : 0,
            .decode_seqs = sequences,
            .context_tokens = 1000 * sequences};
  }
  Seconds true_time(const StepLoad& load) const { return truth_.step_time(load); }
  Seconds measure(const StepLoad& load, double noise, double stall_share) {
    const double factor = std::normal_distribution<double>(1.0, noise)(random_);
    return true_time(load) * factor * (uniform() < stall_share ? 20.0 : 1.0);
  }

 private:
  CostModel truth_;
  std::mt19937 random_;
};

CostParameters scaled(double factor) {
  return {.base = 0.012 * factor,
          .per_prefill = 0.8e-4 * factor,
          .per_decode = 4.0e-4 * factor,
          .per_context = 1.0e-7 * factor};
}

using Draw = std::function<StepLoad(Deployment&)>;
StepLoad busy(Deployment& deployment) { return deployment.busy_step(); }
StepLoad collinear(Deployment& deployment) { return deployment.collinear_step(); }

void train(CostModel& model, Deployment& deployment, const Draw& draw, int steps, double noise,
           double stall_share) {
  for (int i = 0; i < steps; ++i) {
    const StepLoad load = draw(deployment);
    model.observe_step(load, deployment.measure(load, noise, stall_share));
  }
}

double mean_error(const CostModel& model, Deployment& deployment, const Draw& draw) {
  double sum = 0.0;
  constexpr int kSteps = 500;
  for (int i = 0; i < kSteps; ++i) {
    const StepLoad load = draw(deployment);
    const Seconds truth = deployment.true_time(load);
    sum += std::abs(model.step_time(load) - truth) / truth;
  }
  return sum / kSteps;
}

TEST(CostModel, StepTimeIsLinear) {
  const CostModel model(
      {.base = 0.01, .per_prefill = 1e-4, .per_decode = 2e-4, .per_context = 1e-7});
  // 10 ms + 500 * 0.1 ms + 10 * 0.2 ms + 20,000 * 0.1 us
  EXPECT_DOUBLE_EQ(model.step_time({500, 10, 20'000}), 0.010 + 0.050 + 0.002 + 0.002);
}

TEST(CostModel, RecomputeTimeIsMarginalCostPlusTheStepsItFills) {
  const CostModel model(
      {.base = 0.01, .per_prefill = 1e-4, .per_decode = 1.0, .per_context = 1e-7});
  // 1000 * 0.1 ms + 2 steps * (10 ms + 500 tokens on average * 0.1 us)
  EXPECT_DOUBLE_EQ(model.recompute_time(1000, 500), 0.100 + 2 * (0.010 + 5e-5));
  EXPECT_EQ(model.recompute_time(0, 500), 0.0);
  EXPECT_EQ(model.recompute_time(-5, 500), 0.0);
  EXPECT_LT(model.recompute_time(100, 500), 0.013);  // a fifth of a step
}

TEST(CostModel, SwapTimeNeedsBandwidthAndSize) {
  CostParameters parameters;
  EXPECT_EQ(CostModel(parameters).swap_time(10), kForever);
  parameters.swap_bytes_per_s = 1.0e9;
  EXPECT_EQ(CostModel(parameters).swap_time(10), kForever);
  parameters.kv_bytes_per_token = 1 << 20;
  EXPECT_DOUBLE_EQ(CostModel(parameters).swap_time(1000), 1.048576);  // 1000 MiB at 1 GB/s
  EXPECT_EQ(CostModel(parameters).swap_time(0), 0.0);
  // More than 4 GiB, no overflow: 1e6 tokens * 1 GiB
  parameters.kv_bytes_per_token = Bytes{1} << 30;
  EXPECT_DOUBLE_EQ(CostModel(parameters).swap_time(1'000'000), 1073741.824);
}

TEST(CostModel, NamesTheParameterOutsideItsRange) {
  const auto message = [](const CostParameters& parameters) {
    return error_of<InvalidOption>([&] { CostModel{parameters}; });
  };
  EXPECT_EQ(message({.base = -1.0}), "base = -1: expected a number in [0, 10]");
  EXPECT_EQ(message({.per_prefill = 2.0}), "per_prefill = 2: expected a number in [0, 1]");
  EXPECT_EQ(message({.per_decode = 2.0}), "per_decode = 2: expected a number in [0, 1]");
  EXPECT_EQ(message({.per_context = 0.01}), "per_context = 0.01: expected a number in [0, 0.001]");
  EXPECT_EQ(message({.swap_bytes_per_s = kForever}),
            "swap_bytes_per_s = inf: expected a number in [0, 1e+13]");
  EXPECT_EQ(message({.kv_bytes_per_token = -1}),
            "kv_bytes_per_token = -1: expected a number in [0, 1073741824]");
  EXPECT_THROW(CostModel({.base = std::nan("")}), InvalidOption);
}

TEST(CostModel, IgnoresAndCountsMeasurementsThatCannotBe) {
  CostModel model({});
  const CostParameters before = model.parameters();
  const StepLoad fine{100, 4, 1000};
  for (const double seconds : {0.0, -1.0, 60.1, kForever, std::nan("")}) {
    model.observe_step(fine, seconds);
  }
  model.observe_step({}, 0.01);
  model.observe_step({0, 0, 1000}, 0.01);
  model.observe_step({-1, 4, 1000}, 0.01);
  model.observe_step({1, -4, 1000}, 0.01);
  model.observe_step({1, 4, -1000}, 0.01);
  model.observe_step({1, 4, Tokens{1} << 40}, 0.01);
  EXPECT_EQ(model.rejected_steps(), 11);
  EXPECT_EQ(model.observed_steps(), 0);
  EXPECT_EQ(model.parameters().base, before.base);
  model.observe_step(fine, 0.02);
  EXPECT_EQ(model.observed_steps(), 1);
}

// The start parameters may be far off in both directions.
class CostModelFrom : public ::testing::TestWithParam<double> {};

TEST_P(CostModelFrom, ConvergesUnderNoise) {
  Deployment deployment(scaled(GetParam()), 1);
  CostModel model({});
  train(model, deployment, busy, 1000, 0.03, 0.0);
  EXPECT_LT(mean_error(model, deployment, busy), 0.02);
  EXPECT_LT(model.relative_error(), 0.05);
  const CostParameters truth = scaled(GetParam());
  EXPECT_NEAR(model.parameters().base / truth.base, 1.0, 0.1);
  EXPECT_NEAR(model.parameters().per_prefill / truth.per_prefill, 1.0, 0.05);
  EXPECT_NEAR(model.parameters().per_decode / truth.per_decode, 1.0, 0.1);
}

TEST_P(CostModelFrom, ConvergesUnderNoiseAndStalls) {
  Deployment deployment(scaled(GetParam()), 2);
  CostModel model({});
  train(model, deployment, busy, 5000, 0.03, 0.05);  // one step in 20 takes 20 times as long
  EXPECT_LT(mean_error(model, deployment, busy), 0.05);
}

TEST_P(CostModelFrom, PredictsWellWhenFeaturesCannotBeToldApart) {
  Deployment deployment(scaled(GetParam()), 3);
  CostModel model({});
  train(model, deployment, collinear, 2000, 0.03, 0.0);
  EXPECT_LT(mean_error(model, deployment, collinear), 0.02);
}

INSTANTIATE_TEST_SUITE_P(Factor, CostModelFrom, ::testing::Values(0.1, 1.0, 10.0));

TEST(CostModel, OneStallDoesNotRuinIt) {
  Deployment deployment(scaled(1.0), 4);
  CostModel model({});
  train(model, deployment, busy, 500, 0.03, 0.0);
  model.observe_step({100, 8, 8000}, 30.0);
  EXPECT_LT(mean_error(model, deployment, busy), 0.03);
}

TEST(CostModel, AFirstStepThatCompilesDoesNotRuinIt) {
  Deployment deployment(scaled(1.0), 5);
  CostModel model({});
  model.observe_step({100, 1, 100}, 30.0);
  EXPECT_LT(model.parameters().base, 0.1);
  train(model, deployment, busy, 200, 0.03, 0.0);
  EXPECT_LT(mean_error(model, deployment, busy), 0.03);
}

TEST(CostModel, FollowsADeploymentThatChanges) {
  CostModel model({});
  Deployment before(scaled(1.0), 6);
  train(model, before, busy, 5000, 0.03, 0.0);
  Deployment after(scaled(1.5), 7);
  train(model, after, busy, 5000, 0.03, 0.0);
  EXPECT_LT(mean_error(model, after, busy), 0.05);
}

TEST(CostModel, LongIdenticalStepsDoNotForgetTheRest) {
  Deployment deployment(scaled(1.0), 8);
  CostModel model({});
  train(model, deployment, busy, 2000, 0.03, 0.0);
  const Draw same = [](Deployment&) { return StepLoad{0, 1, 500}; };
  train(model, deployment, same, 200'000, 0.03, 0.0);
  EXPECT_LT(mean_error(model, deployment, same), 0.02);
  EXPECT_LT(mean_error(model, deployment, busy), 0.05);  // not one busy step seen since
  model.observe_step({2000, 1, 500}, 0.25);              // a single noisy one
  EXPECT_LT(mean_error(model, deployment, busy), 0.15);
}

// Sizes and times drawn from `decades` powers of ten, without any relation between them.
void feed_nonsense(CostModel& model, double decades, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(0.0, 1.0);
  const auto tokens = [&](double most) {
    return static_cast<Tokens>(std::pow(10.0, most * uniform(random))) - 1;
  };
  for (int i = 0; i < 20'000; ++i) {
    model.observe_step({tokens(decades), tokens(decades), tokens(decades)},
                       std::pow(10.0, -5.0 + 6.7 * uniform(random)));
    const CostParameters& fitted = model.parameters();
    ASSERT_TRUE(fitted.base >= 0.0 && fitted.base <= 10.0);
    ASSERT_TRUE(fitted.per_prefill >= 0.0 && fitted.per_prefill <= 1.0);
    ASSERT_TRUE(fitted.per_decode >= 0.0 && fitted.per_decode <= 1.0);
    ASSERT_TRUE(fitted.per_context >= 0.0 && fitted.per_context <= 1.0e-3);
  }
}

TEST(CostModel, StaysInsideItsRangesWhateverItIsFed) {
  CostModel model({});
  feed_nonsense(model, 9.0, 9);
}

TEST(CostModel, LearnsTheBandwidthOfCopies) {
  CostModel model({.kv_bytes_per_token = 1000});
  EXPECT_EQ(model.swap_time(1000), kForever);
  model.observe_copy(1'000'000, 0.001);  // the first one is all that is known: 1e9 B/s
  EXPECT_DOUBLE_EQ(model.swap_time(1000), 0.001);
  for (int i = 0; i < 200; ++i) model.observe_copy(100'000'000, 0.01);
  EXPECT_NEAR(model.swap_time(1000), 1e-4, 1e-6);
  for (int i = 0; i < 10; ++i) model.observe_copy(1000, 0.1);  // small and slow: hardly counts
  EXPECT_NEAR(model.swap_time(1000), 1e-4, 1e-5);
}

TEST(CostModel, IgnoresCopiesThatCannotBe) {
  CostModel model({.swap_bytes_per_s = 1e9, .kv_bytes_per_token = 1000});
  model.observe_copy(0, 1.0);
  model.observe_copy(-5, 1.0);
  model.observe_copy(1'000'000'000, 0.0);
  model.observe_copy(1'000'000'000, -1.0);
  model.observe_copy(1'000'000'000, std::nan(""));
  model.observe_copy(1'000'000'000, 61.0);
  EXPECT_EQ(model.parameters().swap_bytes_per_s, 1e9);
  model.observe_copy(Bytes{1} << 60, 1e-9);
  EXPECT_LE(model.parameters().swap_bytes_per_s, 1e13);
}

TEST(CostModel, LearnsAgainAfterNonsense) {
  CostModel model({});
  feed_nonsense(model, 5.0, 10);
  Deployment deployment(scaled(1.0), 11);
  train(model, deployment, busy, 20'000, 0.03, 0.0);
  EXPECT_LT(mean_error(model, deployment, busy), 0.05);
}

}  // namespace
}  // namespace lamps
