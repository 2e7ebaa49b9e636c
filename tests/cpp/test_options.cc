// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <cmath>
#include <string>

#include "expect_error.h"
#include "lamps/errors.h"
#include "lamps/options.h"

namespace lamps {
namespace {

using testing::error_of;

template <typename Change>
std::string message_after(const Change& change) {
  Options options;
  change(options);
  return error_of<InvalidOption>([&] { options.validate(); });
}

TEST(Options, DefaultsAreValid) { EXPECT_NO_THROW(Options{}.validate()); }

TEST(Options, NamesTheOptionOutsideItsRange) {
  EXPECT_EQ(message_after([](Options& o) { o.rank_weight = -1.0; }),
            "rank_weight = -1: expected a number in [0, 1e+06]");
  EXPECT_EQ(message_after([](Options& o) { o.rank_horizon = -1.0; }),
            "rank_horizon = -1: expected a number in [0, 1e+06]");
  EXPECT_EQ(message_after([](Options& o) { o.starvation_threshold = 0; }),
            "starvation_threshold = 0: expected a number in [1, 1e+09]");
  EXPECT_EQ(message_after([](Options& o) { o.starvation_seconds = std::nan(""); }),
            "starvation_seconds = nan: expected a number in [0, 1e+06]");
  EXPECT_EQ(message_after([](Options& o) { o.score_update_interval = 0; }),
            "score_update_interval = 0: expected a number in [1, 1e+06]");
  EXPECT_EQ(message_after([](Options& o) { o.admission_share = 1.5; }),
            "admission_share = 1.5: expected a number in [0.1, 1]");
  EXPECT_EQ(message_after([](Options& o) { o.redecide_seconds = 0.0; }),
            "redecide_seconds = 0: expected a number in [0.001, 3600]");
  EXPECT_EQ(message_after([](Options& o) { o.forget_seconds = 0.0; }),
            "forget_seconds = 0: expected a number in [1, 1e+07]");
  EXPECT_EQ(message_after([](Options& o) { o.victim_hysteresis = 11.0; }),
            "victim_hysteresis = 11: expected a number in [0, 10]");
}

TEST(Options, TheLeastAdmissionShareIsNotAboveTheLargest) {
  EXPECT_EQ(message_after([](Options& o) {
              o.admission_share = 0.5;
              o.min_admission_share = 0.6;
            }),
            "min_admission_share = 0.6: expected a number in [0.1, 0.5]");
}

TEST(Engine, EveryNumberMustBePositive) {
  const Engine good{.capacity_tokens = 1024, .max_context = 512};
  EXPECT_NO_THROW(good.validate());
  const auto message = [&](const auto& change) {
    Engine engine = good;
    change(engine);
    return error_of<InvalidOption>([&] { engine.validate(); });
  };
  EXPECT_EQ(message([](Engine& e) { e.capacity_tokens = 0; }).rfind("capacity_tokens = 0:", 0), 0U);
  EXPECT_EQ(message([](Engine& e) { e.block_tokens = 0; }).rfind("block_tokens = 0:", 0), 0U);
  EXPECT_EQ(message([](Engine& e) { e.max_context = -1; }).rfind("max_context = -1:", 0), 0U);
  EXPECT_EQ(message([](Engine& e) { e.step_tokens = 0; }).rfind("step_tokens = 0:", 0), 0U);
}

}  // namespace
}  // namespace lamps
