// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <random>
#include <string>

#include "lamps/predictor.h"

namespace lamps {
namespace {

constexpr TurnFacts kFirstTurn{};

TurnFacts after_call(Seconds last_call, int turn = 1) {
  return {.turn = turn, .last_call = last_call, .tool = kNoTool};
}

TEST(Predictor, ToolNamesGetDenseIds) {
  Predictor predictor;
  EXPECT_EQ(predictor.tool_id("search"), 0);
  EXPECT_EQ(predictor.tool_id("bash"), 1);
  EXPECT_EQ(predictor.tool_id("search"), 0);
  EXPECT_EQ(predictor.tool_id(""), 2);
}

TEST(Predictor, TooManyToolNamesShareTheLastId) {
  Predictor predictor;
  for (std::size_t i = 0; i < Predictor::kMaxTools; ++i) predictor.tool_id(std::to_string(i));
  const auto last = static_cast<ToolId>(Predictor::kMaxTools - 1);
  EXPECT_EQ(predictor.tool_id("one more"), last);
  EXPECT_EQ(predictor.tool_id("and another"), last);
  EXPECT_EQ(predictor.tool_id("7"), 7);
}

TEST(Predictor, AnswersBeforeAnythingWasSeen) {
  const Predictor predictor;
  for (const double produced : {0.0, 10.0, 1e6}) {
    EXPECT_GE(predictor.remaining_output(kFirstTurn, produced), 1.0);
  }
  for (const Seconds elapsed : {0.0, 0.5, 1e4}) {
    EXPECT_GT(predictor.remaining_call(kFirstTurn, elapsed), 0.0);
    EXPECT_GT(predictor.p_return(kFirstTurn, elapsed), 0.0);
    EXPECT_LT(predictor.p_return(kFirstTurn, elapsed), 1.0);
    EXPECT_DOUBLE_EQ(predictor.still_out(kFirstTurn, elapsed, 0.0), 1.0);
  }
  EXPECT_GE(predictor.further_turns(kFirstTurn), 0.0);
  EXPECT_GT(predictor.patience(), 0.0);
}

TEST(Predictor, LearnsOutputLengths) {
  Predictor predictor;
  for (int i = 0; i < 500; ++i) predictor.observe_output(kFirstTurn, 30 + i % 21);
  EXPECT_NEAR(predictor.remaining_output(kFirstTurn, 0.0), 40.0, 1.0);
  // Between 40 and 50: 45 on average
  EXPECT_NEAR(predictor.remaining_output(kFirstTurn, 40.0), 5.5, 1.0);
  // One that has outlived everything seen is not about to end.
  EXPECT_GT(predictor.remaining_output(kFirstTurn, 400.0), 50.0);
}

TEST(Predictor, TellsOutputsByThePreviousCall) {
  Predictor predictor;
  for (int i = 0; i < 500; ++i) {
    predictor.observe_output(kFirstTurn, 20);
    predictor.observe_output(after_call(5.0), 200);
  }
  EXPECT_NEAR(predictor.remaining_output(kFirstTurn, 0.0), 20.0, 5.0);
  EXPECT_NEAR(predictor.remaining_output(after_call(5.0), 0.0), 200.0, 5.0);
}

TEST(Predictor, TellsCallsByTool) {
  Predictor predictor;
  TurnFacts quick{.turn = 0, .last_call = -1.0, .tool = predictor.tool_id("calculator")};
  TurnFacts slow{.turn = 0, .last_call = -1.0, .tool = predictor.tool_id("build")};
  for (int i = 0; i < 500; ++i) {
    predictor.observe_call(quick, 0.1);
    predictor.observe_call(slow, 60.0);
  }
  EXPECT_NEAR(predictor.remaining_call(quick, 0.0), 0.1, 0.5);
  EXPECT_NEAR(predictor.remaining_call(slow, 0.0), 60.0, 1.0);
  EXPECT_GT(predictor.still_out(slow, 0.0, 10.0), 0.9);
  EXPECT_LT(predictor.still_out(quick, 0.0, 10.0), 0.1);
  // A tool never seen is expected to behave like all calls together.
  const TurnFacts unknown{.turn = 0, .last_call = -1.0, .tool = predictor.tool_id("new")};
  EXPECT_NEAR(predictor.remaining_call(unknown, 0.0), 30.0, 3.0);
}

TEST(Predictor, TellsCallsByThePreviousOne) {
  Predictor predictor;
  for (int i = 0; i < 500; ++i) {
    predictor.observe_call(after_call(0.2), 0.2);
    predictor.observe_call(after_call(30.0), 30.0);
  }
  EXPECT_LT(predictor.remaining_call(after_call(0.2), 0.0), 1.0);
  EXPECT_GT(predictor.remaining_call(after_call(30.0), 0.0), 25.0);
}

TEST(Predictor, SilenceSpeaksForASessionThatWillNotReturn) {
  Predictor predictor;
  for (int i = 0; i < 300; ++i) {
    predictor.observe_call(kFirstTurn, 1.0 + 0.01 * (i % 100));
    if (i % 2 == 0) predictor.observe_no_return(kFirstTurn);
  }
  EXPECT_NEAR(predictor.p_return(kFirstTurn, 0.0), 2.0 / 3.0, 0.05);
  double last = 1.0;
  for (Seconds elapsed = 0.0; elapsed < 5.0; elapsed += 0.1) {
    const double now = predictor.p_return(kFirstTurn, elapsed);
    EXPECT_LE(now, last + 1e-12);
    last = now;
  }
  EXPECT_LT(last, 0.1);
}

TEST(Predictor, StillOutFallsFromOneToZero) {
  Predictor predictor;
  std::mt19937 random(1);
  std::lognormal_distribution<double> draw(0.0, 1.5);
  for (int i = 0; i < 1000; ++i) predictor.observe_call(kFirstTurn, draw(random));
  for (const Seconds elapsed : {0.0, 0.3, 2.0, 500.0}) {
    double last = 1.0;
    EXPECT_DOUBLE_EQ(predictor.still_out(kFirstTurn, elapsed, 0.0), 1.0);
    for (Seconds later = 1e-3; later < 1e5; later *= 1.5) {
      const double now = predictor.still_out(kFirstTurn, elapsed, later);
      EXPECT_LE(now, last + 1e-12);
      EXPECT_GE(now, 0.0);
      last = now;
    }
    EXPECT_LT(last, 0.01);
  }
}

TEST(Predictor, CountsFurtherTurns) {
  Predictor predictor;
  // Every session has 5 turns: 4 calls, then the end.
  for (int session = 0; session < 400; ++session) {
    for (int turn = 0; turn < 4; ++turn) predictor.observe_call(after_call(1.0, turn), 1.0);
    predictor.observe_no_return(after_call(1.0, 4));
  }
  EXPECT_GT(predictor.further_turns(after_call(1.0, 0)), 3.0);
  EXPECT_LT(predictor.further_turns(after_call(1.0, 3)), 0.5);
  EXPECT_LE(predictor.further_turns(after_call(1.0, 0)), 20.0);
}

TEST(Predictor, PatienceCoversNearlyAllCalls) {
  Predictor predictor;
  const Seconds before = predictor.patience();
  EXPECT_GT(before, 0.0);
  for (int i = 0; i < 1000; ++i) predictor.observe_call(kFirstTurn, i % 50 == 0 ? 30.0 : 1.0);
  EXPECT_GT(predictor.patience(), 30.0);
}

}  // namespace
}  // namespace lamps
